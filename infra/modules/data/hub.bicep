// The task hub's tables, made here so that whoever deploys may read these two, and the hub's large messages, and nothing
// else of the account: hooks/upgrade.py asks whether what waits would go on with the new code.
param accountName string
param hub string
param deployerPrincipalId string
param deployerPrincipalType string

var tableDataReader = '76199698-9eea-4c19-bc75-cec21354c6b6'
var blobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' existing = {
  parent: account
  name: 'default'
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: account
  name: 'default'
}

resource largeMessages 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobs
  name: '${hub}-largemessages'
}

// As the Durable extension names them; it makes what it does not find.
resource instances 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = {
  parent: tables
  name: '${hub}Instances'
}

resource history 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = {
  parent: tables
  name: '${hub}History'
}

resource instancesRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(instances.id, deployerPrincipalId, tableDataReader)
  scope: instances
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableDataReader)
    principalId: deployerPrincipalId
    principalType: deployerPrincipalType
  }
}

resource historyRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(history.id, deployerPrincipalId, tableDataReader)
  scope: history
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableDataReader)
    principalId: deployerPrincipalId
    principalType: deployerPrincipalType
  }
}

resource largeMessagesRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(largeMessages.id, deployerPrincipalId, blobDataReader)
  scope: largeMessages
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataReader)
    principalId: deployerPrincipalId
    principalType: deployerPrincipalType
  }
}
