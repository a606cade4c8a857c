// The virtual network: one subnet for the app's outgoing traffic, one for the private endpoints.
param name string
param location string
param tags object

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['10.10.0.0/16'] }
    subnets: [
      {
        // Flex Consumption needs a delegated subnet of its own; a /24 has room for more than 100 instances.
        name: 'app'
        properties: {
          addressPrefix: '10.10.0.0/24'
          delegations: [
            { name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: { addressPrefix: '10.10.1.0/24', privateEndpointNetworkPolicies: 'Enabled' }
      }
    ]
  }
}

output id string = network.id
output appSubnetId string = '${network.id}/subnets/app'
output endpointSubnetId string = '${network.id}/subnets/endpoints'
