// The workspace for logs, traces and metrics. The daily cap bounds the cost of an error loop.
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
    // Public query access stays on for the alerts' queries, which come from Azure Monitor itself: an alert whose query
    // is refused would never fire. Reading always needs a role of this tenant.
    publicNetworkAccessForQuery: 'Enabled'
  }
}

// Who queried the logs.
resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: workspace
  properties: {
    workspaceId: workspace.id
    logs: [{ category: 'Audit', enabled: true }]
  }
}

output id string = workspace.id
