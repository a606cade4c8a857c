// Parley on Azure: one resource group, one identity for the app, and every resource that this identity may use.
// There are no keys: local authentication is off wherever Azure allows it, and roles are assigned per resource.
targetScope = 'subscription'

// ---------------------------------------------------------------------------------------------------------- parameters

@description('Name of this deployment; part of the resource group\'s name and of every resource\'s unique token.')
@minLength(1)
@maxLength(40)
param environmentName string

@description('Region: one that has Flex Consumption, the Durable Task Scheduler and the chosen model.')
@metadata({ azd: { type: 'location' } })
param location string

@description('Size of the resources: dev is cheap and not redundant, prod survives the loss of a zone (the Scheduler only with three units). The table is in infra/README.md.')
@allowed(['dev', 'prod'])
param size string = 'dev'

@description('Whether all resources are reachable only inside the virtual network, but for reading logs, which needs a role instead. By default prod is.')
param private bool = size == 'prod'

@description('With private: whether callers reach the app and SignalR from anywhere all the same, by signing in. The data services stay inside.')
param publicApp bool = !private

@description('Durable backend: the Durable Task Scheduler or Azure Storage. Only host settings differ; the app\'s code does not.')
@allowed(['scheduler', 'storage'])
param durableBackend string = 'scheduler'

@description('Units of the Scheduler in prod: one is fast enough for most, three are redundant at three times the price.')
@allowed([1, 2, 3])
param schedulerUnits int = 1

@description('Application (client) id of the Entra app registration that callers sign in to (made by infra/hooks/register.py). Required.')
@minLength(36)
@maxLength(36)
param authClientId string

@description('Origins of other web consoles that may call the app and SignalR: https://chat.example.com.')
param consoleOrigins array = []

@description('Chat model to deploy.')
param modelName string = 'gpt-5.4'

@description('Version of the chat model.')
param modelVersion string = '2026-03-05'

@description('Deployment type of the model, which decides its price and location: GlobalStandard, DataZoneStandard or Standard.')
param modelSku string = 'GlobalStandard'

@description('Quota of the model in thousands of tokens per minute.')
@minValue(1)
param modelCapacity int = 100

@description('Object id of the operator, who becomes the database\'s Entra administrator and may write the vault\'s secrets.')
param principalId string

@description('Display name or user principal name of principalId, with which the administrator signs in to PostgreSQL.')
param principalName string

@description('Kind of principalId: ServicePrincipal in a pipeline.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string = 'User'

@description('Public IP address of the machine that runs the hooks, allowed by the database\'s firewall; empty: none.')
param deployerIp string = ''

@description('Email address for alerts and the budget.')
param alertEmail string

@description('Monthly budget in the currency of the subscription. Emails are sent at 80 % and when 100 % is forecast.')
@minValue(1)
param monthlyBudget int = 200

@description('First day of the month in which the budget starts, such as 2027-01-01: set once, since Azure refuses to change it, and refuses a new budget that starts in a past month. Empty: no budget.')
param budgetStart string = ''

@description('Hosts that the HTTP tools may reach, comma-separated host[:port]; empty: none.')
param toolsHttpAllow string = ''

@description('Names of the secrets of tools, comma-separated, such as CRM_TOKEN: the vault\'s secret tool-crm-token becomes the setting TOOL_SECRET_CRM_TOKEN; empty: none.')
#disable-next-line secure-secrets-in-params // names, which are public
param toolSecrets string = ''
@description('MCP servers that agents may name, `host[:port]`, each with the credentials that it may be given behind it; empty: none')
param mcpAllow string = ''

@description('URL of the webhook for approvals (Standard Webhooks); empty: none.')
param approvalWebhookUrl string = ''

@description('Whether messages of a queue may fire triggers (docs/schedules.md).')
param triggerQueue bool = false

@description('Hosts that webhooks of users may lead to, comma-separated: public is every public host over https, none is none; beside it host[:port].')
param webhookHosts string = 'public'

@description('Channels that cards of approvals go to, comma-separated teams, slack and email, each with a secret of the vault: channel-teams, channel-slack, channel-email; empty: none.')
param channels string = ''

@description('Address that mails of approvals come from; needed with the channel email.')
param mailFrom string = ''

@description('Addresses that mails of approvals go to, comma-separated.')
param mailTo string = ''

@description('Days without activity after which a session is ended; 0: never.')
@minValue(0)
param sessionIdleDays int = 0

@description('Days after its end when a session is permanently erased from all stores; 0: never.')
@minValue(0)
param sessionRetentionDays int = 0

@description('Input and output tokens of one user per day (UTC); 0: no limit.')
@minValue(0)
param userDailyTokens int = 2000000

@description('US dollars of one user per day (UTC), by the prices of the models; 0: no limit. The model needs a known price.')
param userDailyCostUsd string = '0'

// ----------------------------------------------------------------------------------------------------------- variables

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }

// The task hub's name, also in the names of its containers when Azure Storage is the backend.
var hub = 'parley'
var triggerQueueName = 'trigger-messages'

// The two sizes; infra/README.md has their monthly cost and the reasons.
var sizes = {
  dev: {
    zoneRedundant: false
    storageSku: 'Standard_LRS'
    instanceMemoryMB: 2048
    // Three instances per function group and the timers', with three connections each: as many as B1ms allows. On
    // storage, one more is always ready. Checked by tests/infra.
    maximumInstances: 3
    alwaysReady: 0
    postgresSku: 'Standard_B1ms'
    postgresTier: 'Burstable'
    postgresStorageGB: 32
    postgresStandby: 'Disabled'
    postgresGeoBackup: 'Disabled'
    postgresBackupDays: 7
    postgresPoolSize: durableBackend == 'storage' ? 2 : 3
    redisSku: 'Balanced_B0'
    redisReplica: 'Disabled'
    signalrSku: 'Free_F1'
    signalrUnits: 1
    schedulerSku: 'Consumption'
    vaultProtected: false
    logRetentionDays: 30
    logDailyCapGB: 1
  }
  prod: {
    zoneRedundant: true
    storageSku: 'Standard_ZRS'
    instanceMemoryMB: 2048
    maximumInstances: 100
    alwaysReady: 2
    postgresSku: 'Standard_D4ds_v5'
    postgresTier: 'GeneralPurpose'
    postgresStorageGB: 256
    postgresStandby: 'ZoneRedundant'
    postgresGeoBackup: 'Enabled'
    postgresBackupDays: 35
    postgresPoolSize: 8
    redisSku: 'Balanced_B5'
    redisReplica: 'Enabled'
    signalrSku: 'Premium_P1'
    signalrUnits: 2
    schedulerSku: 'Dedicated'
    vaultProtected: true
    logRetentionDays: 90
    logDailyCapGB: 20
  }
}
var bought = sizes[size]

// ----------------------------------------------------------------------------------------------------------- resources

resource group 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-parley-${environmentName}'
  location: location
  tags: tags
}

// The app's identity: the one principal of all role assignments below.
module identity 'modules/app/identity.bicep' = {
  name: 'identity'
  scope: group
  params: { name: 'id-parley-${token}', location: location, tags: tags }
}

// Logs, metrics and traces.
module logs 'modules/observability/logs.bicep' = {
  name: 'logs'
  scope: group
  params: {
    name: 'log-parley-${token}'
    location: location
    tags: tags
    retentionDays: bought.logRetentionDays
    dailyCapGB: bought.logDailyCapGB
    private: private
  }
}

module insights 'modules/observability/insights.bicep' = {
  name: 'insights'
  scope: group
  params: {
    name: 'appi-parley-${token}'
    location: location
    tags: tags
    workspaceId: logs.outputs.id
    private: private
    appPrincipalId: identity.outputs.principalId
  }
}

// The host's own state, the deployment package, the audit table, attachments; also durable state if it is the backend.
module storage 'modules/data/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'stparley${token}'
    location: location
    tags: tags
    sku: bought.storageSku
    private: private
    appPrincipalId: identity.outputs.principalId
    workspaceId: logs.outputs.id
    durableHub: durableBackend == 'storage' ? hub : ''
    triggerQueue: triggerQueue ? triggerQueueName : ''
  }
}

// Who deploys may read the histories of what waits, where they are in Azure Storage.
module hubTables 'modules/data/hub.bicep' = if (durableBackend == 'storage') {
  name: 'hub'
  scope: group
  params: {
    accountName: storage.outputs.name
    hub: hub
    deployerPrincipalId: principalId
    deployerPrincipalType: principalType
  }
}

// The system of record: sessions, messages, turns, approvals.
module postgres 'modules/data/postgres.bicep' = {
  name: 'postgres'
  scope: group
  params: {
    name: 'psql-parley-${token}'
    location: location
    tags: tags
    sku: bought.postgresSku
    tier: bought.postgresTier
    storageGB: bought.postgresStorageGB
    standby: bought.postgresStandby
    geoBackup: bought.postgresGeoBackup
    backupDays: bought.postgresBackupDays
    private: private
    deployerIp: deployerIp
    adminObjectId: principalId
    adminName: principalName
    adminType: principalType
    workspaceId: logs.outputs.id
  }
}

// Event numbers, live events, caches, rate limits: all of this may be lost.
module redis 'modules/data/redis.bicep' = {
  name: 'redis'
  scope: group
  params: {
    name: 'redis-parley-${token}'
    location: location
    tags: tags
    sku: bought.redisSku
    replica: bought.redisReplica
    private: private
    appPrincipalId: identity.outputs.principalId
    workspaceId: logs.outputs.id
  }
}

// Live delivery to browsers.
module signalr 'modules/services/signalr.bicep' = {
  name: 'signalr'
  scope: group
  params: {
    name: 'sigr-parley-${token}'
    location: location
    tags: tags
    // Private endpoints need a paid tier.
    sku: private && size == 'dev' ? 'Standard_S1' : bought.signalrSku
    units: bought.signalrUnits
    // The app's own console, and the named other ones.
    allowedOrigins: concat(consoleOrigins, ['https://func-parley-${token}.azurewebsites.net'])
    private: !publicApp
    appPrincipalId: identity.outputs.principalId
    workspaceId: logs.outputs.id
  }
}

// The model.
module openai 'modules/services/openai.bicep' = {
  name: 'openai'
  scope: group
  params: {
    name: 'oai-parley-${token}'
    location: location
    tags: tags
    modelName: modelName
    modelVersion: modelVersion
    modelSku: modelSku
    modelCapacity: modelCapacity
    private: private
    appPrincipalId: identity.outputs.principalId
    workspaceId: logs.outputs.id
  }
}

// The two secrets, which sign approval links and webhooks. A hook makes them.
module vault 'modules/data/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: 'kv-parley-${token}'
    location: location
    tags: tags
    private: private
    protected: bought.vaultProtected
    appPrincipalId: identity.outputs.principalId
    deployerPrincipalId: principalId
    deployerPrincipalType: principalType
    workspaceId: logs.outputs.id
  }
}

// The durable backend, unless it is the storage account.
module scheduler 'modules/services/scheduler.bicep' = if (durableBackend == 'scheduler') {
  name: 'scheduler'
  scope: group
  params: {
    name: 'dts-parley-${token}'
    location: location
    tags: tags
    sku: bought.schedulerSku
    units: schedulerUnits
    private: private
    appPrincipalId: identity.outputs.principalId
  }
}

// The network, only with `private`: one subnet for the app, one for the private endpoints.
module network 'modules/network/network.bicep' = if (private) {
  name: 'network'
  scope: group
  params: { name: 'vnet-parley-${token}', location: location, tags: tags }
}

// The private path of logs and traces, only with `private`.
module monitor 'modules/network/monitor-scope.bicep' = if (private) {
  name: 'monitor'
  scope: group
  params: {
    name: 'ampls-parley-${token}'
    tags: tags
    logsId: logs.outputs.id
    insightsId: insights.outputs.id
  }
}

// The plan that the app runs on.
module plan 'modules/app/plan.bicep' = {
  name: 'plan'
  scope: group
  params: { name: 'plan-parley-${token}', location: location, tags: tags, zoneRedundant: bought.zoneRedundant }
}

// The app: runtime, scale, settings, and sign-in.
module app 'modules/app/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    name: 'func-parley-${token}'
    location: location
    tags: tags
    planId: plan.outputs.id
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    identityName: identity.outputs.name
    identityPrincipalId: identity.outputs.principalId
    packageContainerUrl: storage.outputs.packageContainerUrl
    instanceMemoryMB: bought.instanceMemoryMB
    maximumInstances: bought.maximumInstances
    alwaysReady: bought.alwaysReady
    private: !publicApp
    workspaceId: logs.outputs.id
    subnetId: private ? network!.outputs.appSubnetId : ''
    consoleOrigins: consoleOrigins
    blobEndpoint: storage.outputs.blobEndpoint
    queueEndpoint: storage.outputs.queueEndpoint
    tableEndpoint: storage.outputs.tableEndpoint
    postgresHost: postgres.outputs.host
    postgresDatabase: postgres.outputs.database
    postgresPoolSize: bought.postgresPoolSize
    redisHost: redis.outputs.host
    redisPort: redis.outputs.port
    signalrHost: signalr.outputs.host
    openaiEndpoint: openai.outputs.endpoint
    openaiDeployment: openai.outputs.deployment
    vaultUri: vault.outputs.uri
    vaultName: 'kv-parley-${token}'
    durableBackend: durableBackend
    schedulerEndpoint: durableBackend == 'scheduler' ? scheduler!.outputs.endpoint : ''
    schedulerHub: durableBackend == 'scheduler' ? scheduler!.outputs.hub : hub
    insightsConnectionString: insights.outputs.connectionString
    toolsHttpAllow: toolsHttpAllow
    toolSecrets: toolSecrets
    mcpAllow: mcpAllow
    triggerQueue: triggerQueue ? triggerQueueName : ''
    approvalWebhookUrl: approvalWebhookUrl
    webhookHosts: webhookHosts
    channels: channels
    mailFrom: mailFrom
    mailTo: mailTo
    authClientId: authClientId
    sessionIdleDays: sessionIdleDays
    sessionRetentionDays: sessionRetentionDays
    userDailyTokens: userDailyTokens
    userDailyCostUsd: userDailyCostUsd
  }
}

module auth 'modules/app/auth.bicep' = {
  name: 'auth'
  scope: group
  params: { appName: app.outputs.name, clientId: authClientId, consoleOrigins: consoleOrigins }
}

// One private endpoint and one DNS zone for each resource that the app reaches, and for the app itself.
module endpoints 'modules/network/private-endpoints.bicep' = if (private) {
  name: 'endpoints'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    virtualNetworkId: private ? network!.outputs.id : ''
    subnetId: private ? network!.outputs.endpointSubnetId : ''
    storageId: storage.outputs.id
    postgresId: postgres.outputs.id
    redisId: redis.outputs.id
    signalrId: signalr.outputs.id
    openaiId: openai.outputs.id
    vaultId: vault.outputs.id
    monitorId: private ? monitor!.outputs.id : ''
    appId: app.outputs.id
    schedulerId: durableBackend == 'scheduler' ? scheduler!.outputs.id : ''
  }
}

// Alerts and the budget.
module alerts 'modules/observability/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    email: alertEmail
    workspaceId: logs.outputs.id
    postgresId: postgres.outputs.id
    redisId: redis.outputs.id
    signalrId: signalr.outputs.id
  }
}

module budget 'modules/observability/budget.bicep' = if (!empty(budgetStart)) {
  name: 'budget'
  scope: group
  params: {
    name: 'budget-parley-${token}'
    amount: monthlyBudget
    startDate: budgetStart
    email: alertEmail
  }
}

// ----------------------------------------------------------------------------- outputs for the hooks; none is a secret

output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_FUNCTION_APP string = app.outputs.name
output AZURE_KEY_VAULT_ENDPOINT string = vault.outputs.uri
output APP_IDENTITY_NAME string = identity.outputs.name
output APP_IDENTITY_OBJECT_ID string = identity.outputs.principalId
output POSTGRES_HOST string = postgres.outputs.host
output POSTGRES_DATABASE string = postgres.outputs.database
output POSTGRES_ADMIN string = principalName
output DURABLE_BACKEND string = durableBackend
output DURABLE_STORAGE string = durableBackend == 'storage' ? storage.outputs.name : ''
output SERVICE_APP_URI string = 'https://${app.outputs.host}'
