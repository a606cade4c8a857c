// Parley on Azure, top to bottom: one resource group, one identity for the app, and every resource that identity may use.
// Nothing here holds a key: local authentication is off wherever Azure allows it, and roles are given per resource.
targetScope = 'subscription'

// ---------------------------------------------------------------------------------------------------- what you choose

@description('Name of this deployment; part of the resource group\'s name and of every resource\'s unique token.')
@minLength(1)
@maxLength(40)
param environmentName string

@description('Region: one that has Flex Consumption, the Durable Task Scheduler and the chosen model.')
@metadata({ azd: { type: 'location' } })
param location string

@description('What is bought: dev costs little and may be lost, prod survives a zone (the Scheduler only with three units). The table is in infra/README.md.')
@allowed(['dev', 'prod'])
param size string = 'dev'

@description('Whether everything is reached only inside the virtual network; but for reading logs, which takes a role and not a place.')
param private bool = false

@description('Where durable state lives. The app does not know: the setting of the host changes, its code does not.')
@allowed(['scheduler', 'storage'])
param durableBackend string = 'scheduler'

@description('Units of the Scheduler in prod: one is as fast as most need, three are redundant, and three times the price.')
@allowed([1, 2, 3])
param schedulerUnits int = 1

@description('Application (client) id of the Entra app registration that callers sign in to (infra/hooks/register.sh makes it). There is no deployment without one.')
@minLength(36)
@maxLength(36)
param authClientId string

@description('Origins of web consoles other than the app\'s own that may call it and SignalR: https://chat.example.com.')
param consoleOrigins array = []

@description('Chat model to deploy.')
param modelName string = 'gpt-5.4'

@description('Its version.')
param modelVersion string = '2026-03-05'

@description('How the model is billed and where it runs: GlobalStandard, DataZoneStandard or Standard.')
param modelSku string = 'GlobalStandard'

@description('Thousands of tokens a minute the model may take.')
@minValue(1)
param modelCapacity int = 100

@description('Who runs this deployment: becomes the database\'s Entra administrator, and may write the vault\'s secrets.')
param principalId string

@description('Display name or user principal name of principalId: PostgreSQL signs an administrator in by it.')
param principalName string

@description('Kind of principalId: ServicePrincipal in a pipeline.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string = 'User'

@description('Public address of whoever runs the hooks, let through the database\'s firewall; empty: none.')
param deployerIp string = ''

@description('Who is told of alerts and of the budget.')
param alertEmail string

@description('Money a month, in the currency of the subscription, of which 80 % and the forecast of 100 % are told.')
@minValue(1)
param monthlyBudget int = 200

@description('First day of the month the budget starts in; by default the month of the deployment.')
param budgetStart string = utcNow('yyyy-MM-01')

@description('Hosts that the fetching tools may reach, comma-separated host[:port]; empty: none.')
param toolsHttpAllow string = ''

@description('Where approvals are announced (Standard Webhooks); empty: nowhere.')
param approvalWebhookUrl string = ''

@description('Days after which a session in which nothing happens is ended; 0: never.')
@minValue(0)
param sessionIdleDays int = 0

@description('Days after which a session that ended is erased, from every store and for good; 0: never.')
@minValue(0)
param sessionRetentionDays int = 0

// --------------------------------------------------------------------------------------------------- what follows

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }

// The two sizes; infra/README.md has what each costs a month and why these.
var sizes = {
  dev: {
    zoneRedundant: false
    storageSku: 'Standard_LRS'
    instanceMemoryMB: 2048
    // Three a group times three connections each, and the timers': what B1ms has room for. tests/infra counts.
    maximumInstances: 3
    alwaysReady: 0
    postgresSku: 'Standard_B1ms'
    postgresTier: 'Burstable'
    postgresStorageGB: 32
    postgresStandby: 'Disabled'
    postgresGeoBackup: 'Disabled'
    postgresBackupDays: 7
    postgresPoolSize: 3
    redisSku: 'Balanced_B0'
    redisReplica: 'Disabled'
    signalrSku: 'Free_F1'
    signalrUnits: 1
    schedulerSku: 'Consumption'
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
    logRetentionDays: 90
    logDailyCapGB: 20
  }
}
var bought = sizes[size]

// --------------------------------------------------------------------------------------------------- the resources

resource group 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-parley-${environmentName}'
  location: location
  tags: tags
}

// Who the app is: the one principal that every role below is given to.
module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: { name: 'id-parley-${token}', location: location, tags: tags }
}

// Where it logs, counts and traces to.
module logs 'modules/logs.bicep' = {
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

module insights 'modules/insights.bicep' = {
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

// The host's own state, the deployment package, the audit table, attachments; durable state too when it is the backend.
module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'stparley${token}'
    location: location
    tags: tags
    sku: bought.storageSku
    private: private
    appPrincipalId: identity.outputs.principalId
  }
}

// The truth: sessions, messages, turns, approvals.
module postgres 'modules/postgres.bicep' = {
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
  }
}

// Event numbers, live events, caches, rate limits: all of it may be lost.
module redis 'modules/redis.bicep' = {
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
  }
}

// The way to browsers.
module signalr 'modules/signalr.bicep' = {
  name: 'signalr'
  scope: group
  params: {
    name: 'sigr-parley-${token}'
    location: location
    tags: tags
    // A private endpoint needs a paid tier.
    sku: private && size == 'dev' ? 'Standard_S1' : bought.signalrSku
    units: bought.signalrUnits
    // The app serves the console itself; others only where named.
    allowedOrigins: concat(consoleOrigins, ['https://func-parley-${token}.azurewebsites.net'])
    private: private
    appPrincipalId: identity.outputs.principalId
  }
}

// The model.
module openai 'modules/openai.bicep' = {
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
  }
}

// The two secrets there are: what approval links and what webhooks are signed with. A hook makes them.
module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: 'kv-parley-${token}'
    location: location
    tags: tags
    private: private
    appPrincipalId: identity.outputs.principalId
    deployerPrincipalId: principalId
    deployerPrincipalType: principalType
    workspaceId: logs.outputs.id
  }
}

// Where each turn stands, unless the storage account is to keep it.
module scheduler 'modules/scheduler.bicep' = if (durableBackend == 'scheduler') {
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

// The network, only when it is to be private: one subnet for the app, one for the endpoints it reaches.
module network 'modules/network.bicep' = if (private) {
  name: 'network'
  scope: group
  params: { name: 'vnet-parley-${token}', location: location, tags: tags }
}

// What the app's logs and traces go through when they may not go through the open network.
module monitor 'modules/monitor-scope.bicep' = if (private) {
  name: 'monitor'
  scope: group
  params: {
    name: 'ampls-parley-${token}'
    tags: tags
    logsId: logs.outputs.id
    insightsId: insights.outputs.id
  }
}

// The machines the app runs on.
module plan 'modules/plan.bicep' = {
  name: 'plan'
  scope: group
  params: { name: 'plan-parley-${token}', location: location, tags: tags, zoneRedundant: bought.zoneRedundant }
}

// The app: its runtime, scale, settings, and sign-in.
module app 'modules/app.bicep' = {
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
    private: private
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
    durableBackend: durableBackend
    schedulerEndpoint: durableBackend == 'scheduler' ? scheduler!.outputs.endpoint : ''
    schedulerHub: durableBackend == 'scheduler' ? scheduler!.outputs.hub : 'parley'
    insightsConnectionString: insights.outputs.connectionString
    toolsHttpAllow: toolsHttpAllow
    approvalWebhookUrl: approvalWebhookUrl
    authClientId: authClientId
    sessionIdleDays: sessionIdleDays
    sessionRetentionDays: sessionRetentionDays
  }
}

module auth 'modules/auth.bicep' = {
  name: 'auth'
  scope: group
  params: { appName: app.outputs.name, clientId: authClientId, consoleOrigins: consoleOrigins }
}

// One private endpoint and one name zone for each thing the app reaches, and for the app itself.
module endpoints 'modules/private-endpoints.bicep' = if (private) {
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

// What wakes somebody, and what tells of money.
module alerts 'modules/alerts.bicep' = {
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

module budget 'modules/budget.bicep' = {
  name: 'budget'
  scope: group
  params: {
    name: 'budget-parley-${token}'
    amount: monthlyBudget
    startDate: budgetStart
    email: alertEmail
  }
}

// ------------------------------------------------------------------------ what the hooks read; no secret among them

output AZURE_RESOURCE_GROUP string = group.name
output AZURE_FUNCTION_APP string = app.outputs.name
output AZURE_KEY_VAULT_NAME string = vault.outputs.name
output APP_IDENTITY_NAME string = identity.outputs.name
output APP_IDENTITY_OBJECT_ID string = identity.outputs.principalId
output POSTGRES_HOST string = postgres.outputs.host
output POSTGRES_DATABASE string = postgres.outputs.database
output POSTGRES_ADMIN string = principalName
output SERVICE_APP_URI string = 'https://${app.outputs.host}'
