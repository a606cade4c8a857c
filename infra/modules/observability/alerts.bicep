// Alerts and their receiver. docs/operations.md says by these names what each alert means and what to do.
param token string
param location string
param tags object
param email string
param workspaceId string
param postgresId string
param redisId string
param signalrId string

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-parley-${token}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'parley'
    emailReceivers: [{ name: 'operator', emailAddress: email, useCommonAlertSchema: true }]
  }
}

// Log lines of activities/turns.py, activities/restarting.py, triggers/operations, triggers/unattended and
// shared/sessions/audit; requests, timeouts and poison messages as logged by the host.
// Requests with our correlation id are the app's own spans of the same requests and would count twice, so they are
// excluded. A rule counts rows in its window and fires when there are more than `most`. One that is looked at every 15
// minutes costs a third of one every 5.
var lines = [
  {
    name: 'failed-turns'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    most: 2
    query: 'AppTraces | where Message startswith "turn failed:"'
  }
  {
    name: 'restarted-turns'
    severity: 2
    every: 'PT15M'
    window: 'PT15M'
    most: 2
    query: 'AppTraces | where Message startswith "turn restarted:"'
  }
  {
    name: 'approvals-about-to-expire'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
    most: 0
    query: 'AppTraces | where Message startswith "approvals about to expire:"'
  }
  {
    name: 'webhooks-not-taken'
    severity: 2
    every: 'PT15M'
    window: 'PT15M'
    most: 0
    query: 'AppTraces | where Message startswith "webhook not taken:" or Message startswith "card not taken:"'
  }
  {
    name: 'turns-without-hub'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    most: 0
    query: 'AppTraces | where Message startswith "turns of no served hub:"'
  }
  {
    name: 'audit-trail'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    most: 0
    query: 'AppTraces | where Message startswith "audit trail damaged:"'
  }
  {
    name: 'audit-outbox'
    severity: 2
    every: 'PT15M'
    window: 'PT15M'
    most: 1
    query: 'AppTraces | where Message startswith "audit lines wait:"'
  }
  {
    name: 'poison-queue'
    severity: 2
    every: 'PT15M'
    window: 'PT15M'
    most: 0
    // The second is the host's own, of a message that could not be taken 20 times.
    query: 'AppTraces | where Message startswith "message to the poison queue:" or Message has "reached MaxDequeueCount"'
  }
  {
    name: 'server-errors'
    severity: 1
    every: 'PT5M'
    window: 'PT5M'
    most: 5
    query: 'AppRequests | where isempty(tostring(Properties["parley.correlation_id"])) and toint(ResultCode) >= 500'
  }
  {
    name: 'function-timeouts'
    severity: 2
    every: 'PT15M'
    window: 'PT15M'
    most: 0
    query: 'union (AppTraces | where Message has "exceeded by function"), (AppExceptions | where OuterMessage has "exceeded by function" or InnermostMessage has "exceeded by function")'
  }
  {
    name: 'throttling'
    severity: 2
    every: 'PT15M'
    window: 'PT15M'
    most: 20
    query: 'union (AppTraces | where Message has "over its rate limit"), (AppRequests | where isempty(tostring(Properties["parley.correlation_id"])) and ResultCode == "429")'
  }
]

resource byLog 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for line in lines: {
  name: 'parley-${line.name}-${token}'
  location: location
  tags: tags
  properties: {
    displayName: 'Parley: ${line.name}'
    enabled: true
    severity: line.severity
    scopes: [workspaceId]
    evaluationFrequency: line.every
    windowSize: line.window
    autoMitigate: true
    // A table exists only once the first row of its kind has arrived; until then the query would be refused.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: line.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: line.most
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: [people.id] }
  }
}]

// Usage in percent of the capacity. by: Redis reports its memory as a maximum only.
var gauges = [
  { name: 'database-processor', target: postgresId, metric: 'cpu_percent', space: 'Microsoft.DBforPostgreSQL/flexibleServers', most: 80, by: 'Average' }
  { name: 'database-storage', target: postgresId, metric: 'storage_percent', space: 'Microsoft.DBforPostgreSQL/flexibleServers', most: 80, by: 'Average' }
  { name: 'redis-memory', target: redisId, metric: 'usedmemorypercentage', space: 'Microsoft.Cache/redisEnterprise', most: 80, by: 'Maximum' }
  { name: 'signalr-connections', target: signalrId, metric: 'ConnectionQuotaUtilization', space: 'Microsoft.SignalRService/SignalR', most: 80, by: 'Average' }
]

resource byMetric 'Microsoft.Insights/metricAlerts@2018-03-01' = [for gauge in gauges: {
  name: 'parley-${gauge.name}-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Parley: ${gauge.name}'
    enabled: true
    severity: 2
    scopes: [gauge.target]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'most'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: gauge.space
          metricName: gauge.metric
          timeAggregation: gauge.by
          operator: 'GreaterThan'
          threshold: gauge.most
        }
      ]
    }
    actions: [{ actionGroupId: people.id }]
  }
}]
