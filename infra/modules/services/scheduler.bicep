// The Durable Task Scheduler: the durable backend. It has no keys, only identities.
param name string
param location string
param tags object
param sku string
param units int
param private bool
param appPrincipalId string

var durableTaskDataContributor = '0ad04412-c4d5-4796-b79c-f76d14c8d402'

resource scheduler 'Microsoft.DurableTask/schedulers@2026-02-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    sku: sku == 'Dedicated' ? { name: 'Dedicated', capacity: units } : { name: 'Consumption' }
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    // An empty list refuses everyone. Without a virtual network the app's addresses are unknown; with one, traffic uses
    // the private endpoint and only the network's own range is listed.
    ipAllowlist: private ? ['10.10.0.0/16'] : ['0.0.0.0/0']
  }
}

resource hub 'Microsoft.DurableTask/schedulers/taskHubs@2026-02-01' = {
  parent: scheduler
  name: 'parley'
  properties: {}
}

// A fallback for the purge timer, which purges ended turns sooner. Waiting turns are not purged.
resource retention 'Microsoft.DurableTask/schedulers/retentionPolicies@2026-02-01' = {
  parent: scheduler
  name: 'default'
  properties: { retentionPolicies: [{ retentionPeriodInDays: 30 }] }
}

resource role 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(hub.id, appPrincipalId, durableTaskDataContributor)
  scope: hub
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', durableTaskDataContributor)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

output id string = scheduler.id
output endpoint string = scheduler.properties.endpoint
output hub string = hub.name
