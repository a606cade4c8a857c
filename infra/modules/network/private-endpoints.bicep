// The private endpoints of all resources, each with its DNS zones. private-endpoint.bicep makes one of them.
param location string
param tags object
param token string
param virtualNetworkId string
param subnetId string
param storageId string
param postgresId string
param redisId string
param signalrId string
param openaiId string
param vaultId string
param monitorId string
param appId string
param schedulerId string

// DNS zones for sending and querying telemetry. (The scope's fifth zone, for blobs, is for solution packs of agents on
// virtual machines, which do not exist here.)
var monitorZones = [
  'privatelink.monitor.azure.com'
  'privatelink.oms.opinsights.azure.com'
  'privatelink.ods.opinsights.azure.com'
  'privatelink.agentsvc.azure-automation.net'
]
var always = [
  { name: 'blob', target: storageId, part: 'blob', zones: ['privatelink.blob.${environment().suffixes.storage}'] }
  { name: 'queue', target: storageId, part: 'queue', zones: ['privatelink.queue.${environment().suffixes.storage}'] }
  { name: 'table', target: storageId, part: 'table', zones: ['privatelink.table.${environment().suffixes.storage}'] }
  { name: 'postgres', target: postgresId, part: 'postgresqlServer', zones: ['privatelink.postgres.database.azure.com'] }
  { name: 'redis', target: redisId, part: 'redisEnterprise', zones: ['privatelink.redis.azure.net'] }
  { name: 'signalr', target: signalrId, part: 'signalr', zones: ['privatelink.service.signalr.net'] }
  { name: 'openai', target: openaiId, part: 'account', zones: ['privatelink.openai.azure.com'] }
  { name: 'vault', target: vaultId, part: 'vault', zones: ['privatelink.vaultcore.azure.net'] }
  { name: 'monitor', target: monitorId, part: 'azuremonitor', zones: monitorZones }
  { name: 'app', target: appId, part: 'sites', zones: ['privatelink.azurewebsites.net'] }
]
var scheduler = [
  { name: 'scheduler', target: schedulerId, part: 'scheduler', zones: ['privatelink.durabletask.io'] }
]
var wanted = empty(schedulerId) ? always : concat(always, scheduler)

module pair 'private-endpoint.bicep' = [for entry in wanted: {
  name: 'endpoint-${entry.name}'
  params: {
    name: 'pe-${entry.name}-${token}'
    location: location
    tags: tags
    virtualNetworkId: virtualNetworkId
    subnetId: subnetId
    targetId: entry.target
    part: entry.part
    zoneNames: entry.zones
  }
}]
