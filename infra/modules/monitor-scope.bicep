// The way for logs and traces inside the network: what is in this scope is reached through its one private endpoint.
param name string
param tags object
param logsId string
param insightsId string

resource monitorScope 'Microsoft.Insights/privateLinkScopes@2021-07-01-preview' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    // From inside the network to these two and no others: telemetry is a way out too.
    accessModeSettings: { ingestionAccessMode: 'PrivateOnly', queryAccessMode: 'Open' }
  }
}

resource logs 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-07-01-preview' = {
  parent: monitorScope
  name: 'logs'
  properties: { linkedResourceId: logsId }
}

resource insights 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-07-01-preview' = {
  parent: monitorScope
  name: 'insights'
  properties: { linkedResourceId: insightsId }
  // The scope takes one change at a time.
  dependsOn: [logs]
}

output id string = monitorScope.id
