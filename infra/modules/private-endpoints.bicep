// Private endpoints of everything, each with the name zone that leads to it. modules/private-endpoint.bicep is one pair.
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
param appId string
param schedulerId string

var always = [
  { name: 'blob', target: storageId, part: 'blob', zone: 'privatelink.blob.${environment().suffixes.storage}' }
  { name: 'queue', target: storageId, part: 'queue', zone: 'privatelink.queue.${environment().suffixes.storage}' }
  { name: 'table', target: storageId, part: 'table', zone: 'privatelink.table.${environment().suffixes.storage}' }
  { name: 'postgres', target: postgresId, part: 'postgresqlServer', zone: 'privatelink.postgres.database.azure.com' }
  { name: 'redis', target: redisId, part: 'redisEnterprise', zone: 'privatelink.redis.azure.net' }
  { name: 'signalr', target: signalrId, part: 'signalr', zone: 'privatelink.service.signalr.net' }
  { name: 'openai', target: openaiId, part: 'account', zone: 'privatelink.openai.azure.com' }
  { name: 'vault', target: vaultId, part: 'vault', zone: 'privatelink.vaultcore.azure.net' }
  { name: 'app', target: appId, part: 'sites', zone: 'privatelink.azurewebsites.net' }
]
var scheduler = [
  { name: 'scheduler', target: schedulerId, part: 'scheduler', zone: 'privatelink.durabletask.io' }
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
    zoneName: entry.zone
  }
}]
