// The workspace that logs, traces and metrics end in; the daily cap bounds what a loop of errors can cost.
param name string
param location string
param tags object
param retentionDays int
param dailyCapGB int
param private bool

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    workspaceCapping: { dailyQuotaGb: dailyCapGB }
    features: { disableLocalAuth: true }
    publicNetworkAccessForIngestion: private ? 'Disabled' : 'Enabled'
    // Reading takes a role of this tenant in either case. It stays open for the alerts' queries, which come from
    // Azure Monitor itself: one that is refused there would be an alert that never fires.
    publicNetworkAccessForQuery: 'Enabled'
  }
}

output id string = workspace.id
