// Managed Redis: event numbers and live events, caches, rate limits. Access keys are off, TLS is on.
param name string
param location string
param tags object
param sku string
param replica string
param private bool
param appPrincipalId string
param workspaceId string

resource cluster 'Microsoft.Cache/redisEnterprise@2025-07-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: sku }
  properties: {
    highAvailability: replica
    minimumTlsVersion: '1.2'
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
  }
}

resource database 'Microsoft.Cache/redisEnterprise/databases@2025-07-01' = {
  parent: cluster
  name: 'default'
  properties: {
    accessKeysAuthentication: 'Disabled'
    clientProtocol: 'Encrypted'
    port: 10000
    // One address for all shards, since the app's client is not a cluster client. The keys of each script share a slot.
    clusteringPolicy: 'EnterpriseCluster'
    // Every key expires; when memory is short, the key that expires next is evicted first. Event numbers survive that,
    // since they are leased.
    evictionPolicy: 'VolatileTTL'
  }
}

// Data access is not an Azure role; it is assigned inside the database.
resource access 'Microsoft.Cache/redisEnterprise/databases/accessPolicyAssignments@2025-07-01' = {
  parent: database
  name: 'app'
  properties: {
    accessPolicyName: 'default'
    user: { objectId: appPrincipalId }
  }
}

// Who connected and was refused.
resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: database
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'ConnectionEvents', enabled: true }]
  }
}

output id string = cluster.id
output host string = cluster.properties.hostName
output port int = 10000
