// PostgreSQL: the system of record. Entra tokens only. infra/hooks/database.py makes the app's role in the database.
param name string
param location string
param tags object
param sku string
param tier string
param storageGB int
param standby string
param geoBackup string
param backupDays int
param private bool
param deployerIp string
param adminObjectId string
param adminName string
param adminType string
param workspaceId string

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: sku, tier: tier }
  properties: {
    // 17 is the oldest version with the collation pg_c_utf8, which the schema uses.
    version: '17'
    authConfig: {
      activeDirectoryAuth: 'Enabled'
      passwordAuth: 'Disabled'
      tenantId: tenant().tenantId
    }
    // The disk never shrinks: one that had grown by itself would make the next deployment of this size a refused
    // downgrade. The alert database-storage tells in time (docs/operations.md).
    storage: { storageSizeGB: storageGB, autoGrow: 'Disabled' }
    backup: { backupRetentionDays: backupDays, geoRedundantBackup: geoBackup }
    highAvailability: { mode: standby }
    network: { publicNetworkAccess: private ? 'Disabled' : 'Enabled' }
  }
}

resource administrator 'Microsoft.DBforPostgreSQL/flexibleServers/administrators@2025-08-01' = {
  parent: server
  name: adminObjectId
  properties: {
    principalName: adminName
    principalType: adminType
    tenantId: tenant().tenantId
  }
}

resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2025-08-01' = {
  parent: server
  name: 'parley'
  properties: { charset: 'UTF8', collation: 'en_US.utf8' }
  dependsOn: [administrator]
}

// 0.0.0.0 allows every address inside Azure, not only the app's: the outgoing addresses of Flex Consumption change, so
// there is no narrower rule without a virtual network. Strangers are kept out by authentication: only Entra tokens of
// this tenant, over TLS. With `private` there is no public address.
resource azureAddresses 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2025-08-01' = if (!private) {
  parent: server
  name: 'azure-addresses'
  properties: { startIpAddress: '0.0.0.0', endIpAddress: '0.0.0.0' }
  dependsOn: [database]
}

resource deployerAddress 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2025-08-01' = if (!private && !empty(deployerIp)) {
  parent: server
  name: 'deployer'
  properties: { startIpAddress: deployerIp, endIpAddress: deployerIp }
  // One after the other: the server refuses two changes at once.
  dependsOn: [database, azureAddresses]
}

// The server's log: connections, refused ones too, and errors.
resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: server
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'PostgreSQLLogs', enabled: true }]
  }
}

output id string = server.id
output host string = server.properties.fullyQualifiedDomainName
output database string = database.name
