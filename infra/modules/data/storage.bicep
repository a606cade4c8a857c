// The storage account: host state, deployment package, audit table, attachments. Shared keys are off.
param name string
param location string
param tags object
param sku string
param private bool
param appPrincipalId string
param workspaceId string

@description('Whether durable state is here as well, and under which name.')
param durableHub string

@description('The queue whose messages fire triggers; empty: none.')
param triggerQueue string

var packageContainer = 'packages'
var queueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var tableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: private ? 'Deny' : 'Allow', bypass: 'AzureServices' }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    // The files of an erased session stay recoverable for this long (docs/operations.md).
    deleteRetentionPolicy: { enabled: true, days: 7 }
    containerDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

// Whoever shall fire triggers gets the role Storage Queue Data Message Sender on the first one (infra/README.md). What can
// not be fired is in the other.
var triggerQueues = empty(triggerQueue) ? [] : [triggerQueue, '${triggerQueue}-poison']
resource triggerMessages 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [for entry in triggerQueues: {
  parent: queues
  name: entry
}]

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: account
  name: 'default'
}

// Every container that anybody uses. The app's identity cannot make others, so the host's are made here: its locks, its
// keys, and what the Durable extension makes of a hub's name in Azure Storage.
var always = [packageContainer, 'parleyfiles', 'azure-webjobs-hosts', 'azure-webjobs-secrets']
var durable = ['${durableHub}-applease', '${durableHub}-leases', '${durableHub}-largemessages']
var containers = empty(durableHub) ? always : concat(always, durable)

module container 'container.bicep' = [for entry in containers: {
  name: 'container-${entry}'
  params: { accountName: account.name, name: entry, appPrincipalId: appPrincipalId }
  dependsOn: [blobs]
}]

resource queueRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, queueDataContributor)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', queueDataContributor)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource tableRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, tableDataContributor)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableDataContributor)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Who wrote and deleted what, and who read files. Polled queues and tables are read all the time, so that is left out.
resource blobLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: blobs
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageRead', enabled: true }, { category: 'StorageWrite', enabled: true }, { category: 'StorageDelete', enabled: true }]
  }
}

resource queueLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: queues
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageWrite', enabled: true }, { category: 'StorageDelete', enabled: true }]
  }
}

resource tableLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: tables
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageWrite', enabled: true }, { category: 'StorageDelete', enabled: true }]
  }
}

output id string = account.id
output name string = account.name
output blobEndpoint string = account.properties.primaryEndpoints.blob
output queueEndpoint string = account.properties.primaryEndpoints.queue
output tableEndpoint string = account.properties.primaryEndpoints.table
output packageContainerUrl string = '${account.properties.primaryEndpoints.blob}${packageContainer}'
