// Azure OpenAI with one deployment, which the app calls over the v1 API. Keys are off. The role below lets the app call
// models (chat completions and responses) and manage nothing.
param name string
param location string
param tags object
param modelName string
param modelVersion string
param modelSku string
param modelCapacity int
param private bool
param appPrincipalId string
param workspaceId string

var openaiUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: { name: 'S0' }
  properties: {
    // Entra tokens are only accepted on a custom subdomain.
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: private ? 'Deny' : 'Allow' }
  }
}

resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2025-06-01' = {
  parent: account
  // The deployment has the model's name, by which the app finds its context window, parameters and prices
  // (shared/sessions/llm/models.json).
  name: modelName
  sku: { name: modelSku, capacity: modelCapacity }
  properties: {
    model: { format: 'OpenAI', name: modelName, version: modelVersion }
    // The version never changes by itself, not even when it is retired: then calls fail until somebody chooses another
    // one (docs/operations.md).
    versionUpgradeOption: 'NoAutoUpgrade'
    raiPolicyName: 'Microsoft.DefaultV2'
  }
}

resource role 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, openaiUser)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', openaiUser)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Who called the model and managed the account; no prompts and no answers.
resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: account
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'Audit', enabled: true }, { category: 'RequestResponse', enabled: true }]
  }
}

output id string = account.id
output endpoint string = account.properties.endpoint
output deployment string = deployment.name
