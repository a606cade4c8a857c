// The private path of logs and traces: the resources in this scope are reached through its one private endpoint.
param name string
param tags object
param logsId string
param insightsId string

resource monitorScope 'Microsoft.Insights/privateLinkScopes@2021-09-01' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    // From inside the network, only these two are reachable, since telemetry could also leak data.
    accessModeSettings: { ingestionAccessMode: 'PrivateOnly', queryAccessMode: 'Open' }
  }
}

resource logs 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-09-01' = {
  parent: monitorScope
  name: 'logs'
  properties: { linkedResourceId: logsId }
}

resource insights 'Microsoft.Insights/privateLinkScopes/scopedResources@2021-09-01' = {
  parent: monitorScope
  name: 'insights'
  properties: { linkedResourceId: insightsId }
  // The scope accepts one change at a time.
  dependsOn: [logs]
}

output id string = monitorScope.id
