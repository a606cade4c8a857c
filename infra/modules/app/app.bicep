// The function app: runtime, scale, and all settings.
param name string
param location string
param tags object
param planId string
param identityId string
param identityClientId string
param identityName string
param identityPrincipalId string
param packageContainerUrl string
param instanceMemoryMB int
param maximumInstances int
param alwaysReady int
param private bool

@description('Subnet for outgoing traffic; empty: none.')
param subnetId string
param workspaceId string
param consoleOrigins array
param blobEndpoint string
param queueEndpoint string
param tableEndpoint string
param postgresHost string
param postgresDatabase string
param postgresPoolSize int
param redisHost string
param redisPort int
param signalrHost string
param openaiEndpoint string
param openaiDeployment string
param vaultUri string
param vaultName string
param durableBackend string
param schedulerEndpoint string
param schedulerHub string
param insightsConnectionString string
param toolsHttpAllow string

@description('Names of the secrets of tools, comma-separated: CRM_TOKEN is the vault\'s secret tool-crm-token.')
#disable-next-line secure-secrets-in-params // names, which are public
param toolSecrets string

param mcpAllow string

@description('The queue whose messages fire triggers; empty: none.')
param triggerQueue string
param approvalWebhookUrl string

@description('Hosts that webhooks of users may lead to.')
param webhookHosts string

@description('Channels that cards of approvals go to, comma-separated: teams is the vault\'s secret channel-teams, slack channel-slack, email channel-email.')
param channels string

param mailFrom string
param mailTo string
param authClientId string
param sessionIdleDays int
param sessionRetentionDays int
param userDailyTokens int
param userDailyCostUsd string

// As text and not with toObject(): the security scan cannot read a file with that function or map().
var toolSecretPairs = [for name in filter(split(toolSecrets, ','), name => !empty(trim(name))): '"TOOL_SECRET_${trim(name)}": "@Microsoft.KeyVault(VaultName=${vaultName};SecretName=tool-${toLower(replace(trim(name), '_', '-'))})"']
var cardChannels = [for name in split(channels, ','): trim(name)]
var toolSecretSettings = json('{${join(toolSecretPairs, ',')}}')

// With Azure Storage one instance always polls the queues: without, nobody sees a message until the platform scales from zero.
var durableInstances = max(alwaysReady, durableBackend == 'storage' ? 1 : 0)
var httpReady = alwaysReady == 0 ? [] : [{ name: 'http', instanceCount: alwaysReady }]
var durableReady = durableInstances == 0 ? [] : [{ name: 'durable', instanceCount: durableInstances }]

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  // The name by which `azd deploy` finds the app.
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: planId
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    keyVaultReferenceIdentity: identityId
    siteConfig: {
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      cors: { allowedOrigins: consoleOrigins, supportCredentials: false }
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstances
        alwaysReady: concat(httpReady, durableReady)
        // A turn's event stream (SSE) keeps a request open without using the processor.
        triggers: { http: { perInstanceConcurrency: 100 } }
      }
    }
  }
}

// All settings: the next deployment deletes any setting that is not here. tests/infra compares these names with
// shared/settings.py and local.settings.sample.json.
resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'appsettings'
  properties: union(toolSecretSettings, {
    // ---- the host: its identity, its state, its telemetry. The worker's own telemetry stays off (no
    // PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY), so the host forwards the app's logs, which the alerts read.
    AZURE_CLIENT_ID: identityClientId
    AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential'
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: identityClientId
    AzureWebJobsStorage__blobServiceUri: blobEndpoint
    AzureWebJobsStorage__queueServiceUri: queueEndpoint
    AzureWebJobsStorage__tableServiceUri: tableEndpoint
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
    // The app's exporter sends Microsoft no statistics about itself and reads no remote configuration, which a private
    // network would block.
    APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL: 'true'
    APPLICATIONINSIGHTS_SDKSTATS_DISABLED: 'true'
    APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED: 'true'
    // No additional metric row per batch of spans with the resource's attributes: each span has them.
    APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED: 'true'
    // ---- the durable backend: these decide. The package's host.json says the same (devtools/package.py), for what scales the app
    AzureFunctionsJobHost__extensions__durableTask__hubName: schedulerHub
    AzureFunctionsJobHost__extensions__durableTask__storageProvider__type: durableBackend == 'scheduler' ? 'azureManaged' : 'AzureStorage'
    AzureFunctionsJobHost__extensions__durableTask__storageProvider__connectionStringName: durableBackend == 'scheduler' ? 'DURABLE_TASK_SCHEDULER_CONNECTION_STRING' : 'AzureWebJobsStorage'
    // How long an instance that is awake may take to see a message that fires a trigger: the default is a minute.
    AzureFunctionsJobHost__extensions__queues__maxPollingInterval: '00:00:10'
    // Only Azure Storage has queues to poll. The defaults are 30 s, which a user waits for, and 5 minutes, for which the work
    // of a killed host stays hidden. Measured effects and the price: docs/operations.md.
    AzureFunctionsJobHost__extensions__durableTask__storageProvider__maxQueuePollingInterval: '00:00:01'
    AzureFunctionsJobHost__extensions__durableTask__storageProvider__workItemQueueVisibilityTimeout: '00:01:00'
    AzureFunctionsJobHost__extensions__durableTask__storageProvider__controlQueueVisibilityTimeout: '00:01:00'
    DURABLE_TASK_SCHEDULER_CONNECTION_STRING: durableBackend == 'scheduler' ? 'Endpoint=${schedulerEndpoint};Authentication=ManagedIdentity;ClientID=${identityClientId}' : ''
    // ---- sign-in: the app registration trusts this identity instead of a client secret
    OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: identityClientId
    // ---- SignalR, for the bindings and for the app itself
    AzureSignalRConnectionString__credential: 'managedidentity'
    AzureSignalRConnectionString__clientId: identityClientId
    AzureSignalRConnectionString__serviceUri: 'https://${signalrHost}'
    REALTIME_DELIVERY: 'binding'
    // ---- the model: with the app's identity, without a key
    AZURE_OPENAI_ENDPOINT: openaiEndpoint
    AZURE_OPENAI_DEPLOYMENT: openaiDeployment
    AZURE_OPENAI_API_KEY: ''
    AZURE_OPENAI_API_VERSION: ''
    MODEL_API: ''
    MODEL_CONTEXT_TOKENS: ''
    MODEL_REASONING_EFFORT: ''
    SESSION_TITLE_MODEL: ''
    MODELS: ''
    OPENAI_BASE_URL: ''
    OPENAI_API_KEY: ''
    OPENAI_MODEL: ''
    LLM_FIRST_BYTE_SECONDS: '180'
    LLM_TIMEOUT_SECONDS: '120'
    LLM_STEP_SECONDS: '480'
    LLM_RETRY_TOKENS: '200000'
    MODEL_LANE: '128'
    MODEL_LANE_PER_USER: '80'
    MODEL_LANE_PER_MODEL: '112'
    TOOL_LANE: '96'
    TOOL_LANE_PER_USER: '64'
    TOOL_THREADS: '32'
    LANE_WAIT_SECONDS: '10'
    // ---- stores: with the app's identity, without a password
    POSTGRES_URL: 'postgresql://${identityName}@${postgresHost}:5432/${postgresDatabase}?sslmode=verify-full&sslrootcert=system'
    POSTGRES_AUTH: 'entra'
    POSTGRES_POOL_SIZE: string(postgresPoolSize)
    REDIS_URL: 'rediss://${identityPrincipalId}@${redisHost}:${redisPort}/0'
    REDIS_AUTH: 'entra'
    REDIS_PATIENCE_SECONDS: '0.3'
    TABLES_ENDPOINT: tableEndpoint
    BLOBS_ENDPOINT: blobEndpoint
    ATTACHMENT_MAX_BYTES: '26214400'
    // The host reads every body whole, as text, before it calls a function. This refuses what is larger than the largest
    // upload: ATTACHMENT_MAX_BYTES and the form around it (tests/infra adds them).
    FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '26279936'
    EVENT_BUFFER_LENGTH: '10000'
    EVENT_BUFFER_SECONDS: '86400'
    TURN_HISTORY_DAYS: '7'
    TURN_STALLED_SECONDS: '120'
    SESSION_IDLE_DAYS: string(sessionIdleDays)
    SESSION_RETENTION_DAYS: string(sessionRetentionDays)
    // ---- callers and links
    AUTH_MODE: 'easyauth'
    AUTH_TENANT_ID: tenant().tenantId
    AUTH_AUDIENCES: '${authClientId},api://${authClientId}'
    PUBLIC_BASE_URL: 'https://${app.properties.defaultHostName}'
    APPROVAL_LINK_SECRET: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/approval-link)'
    APPROVAL_WEBHOOK_URL: approvalWebhookUrl
    APPROVAL_WEBHOOK_SECRET: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/approval-webhook)'
    TRIGGER_QUEUE: triggerQueue
    // ---- channels: webhooks of users, and cards for approvers, whose addresses are secrets
    WEBHOOK_HOSTS: webhookHosts
    TEAMS_WEBHOOK_URL: contains(cardChannels, 'teams') ? '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/channel-teams)' : ''
    SLACK_WEBHOOK_URL: contains(cardChannels, 'slack') ? '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/channel-slack)' : ''
    SMTP_URL: contains(cardChannels, 'email') ? '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/channel-email)' : ''
    MAIL_FROM: mailFrom
    MAIL_TO: mailTo
    // ---- limits
    RATE_LIMIT_PER_MINUTE: '600'
    RATE_LIMIT_BURST: '100'
    RATE_LIMIT_FAIL: 'open'
    STREAMS_PER_USER: '20'
    USER_DAILY_TOKENS: string(userDailyTokens)
    USER_DAILY_COST_USD: userDailyCostUsd
    // ---- tools
    TOOLS_HTTP_ALLOW: toolsHttpAllow
    AGENTS_FOLDER: 'agents'
    MCP_ALLOW: mcpAllow
    // ---- traces: to Application Insights with the app's identity, where the host also reports every function; or to
    // an OTLP collector, if set here
    APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
    OTEL_EXPORTER_OTLP_ENDPOINT: ''
    OTEL_EXPORTER_OTLP_HEADERS: ''
    OTEL_SERVICE_NAME: 'parley'
  })
}

// Deployments use Entra; publishing passwords stay off.
resource scm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

resource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

// Who signed in and was refused. The app's and the host's own lines go to Application Insights.
resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'log'
  scope: app
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'AppServiceAuthenticationLogs', enabled: true }]
  }
}

output id string = app.id
output name string = app.name
output host string = app.properties.defaultHostName
