// SignalR in serverless mode: clients listen, the app sends. Access keys are off.
param name string
param location string
param tags object
param sku string
param units int
param allowedOrigins array
param private bool
param appPrincipalId string
param workspaceId string

// Owner: negotiation needs the service's REST API and its auth API, and each narrower role has only one of them.
var signalrServiceOwner = '7e4f1700-ea5a-4f59-8f37-079cfe29dce3'

resource signalr 'Microsoft.SignalRService/signalR@2024-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'SignalR'
  sku: { name: sku, capacity: units }
  properties: {
    features: [
      { flag: 'ServiceMode', value: 'Serverless' }
      { flag: 'EnableConnectivityLogs', value: 'true' }
    ]
    disableLocalAuth: true
    disableAadAuth: false
    // Without this list the service would accept every origin; an empty list accepts none.
    cors: { allowedOrigins: allowedOrigins }
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    // From public networks, clients may connect and the app may send, with tokens; hub servers and live traces may not.
    networkACLs: {
      // With Allow, a list would deny nothing.
      defaultAction: 'Deny'
      publicNetwork: { allow: private ? [] : ['ClientConnection', 'RESTAPI'] }
    }
    tls: { clientCertEnabled: false }
  }
}

resource role 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(signalr.id, appPrincipalId, signalrServiceOwner)
  scope: signalr
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', signalrServiceOwner)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Connections, and what the features above let the service log.
resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: signalr
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
  }
}

output id string = signalr.id
output host string = signalr.properties.hostName
