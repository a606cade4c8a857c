// App Service Authentication: the platform validates every token before a request reaches the app, and adds the
// caller's principal.
param appName string
param clientId string

@description('Origins of other consoles to which a sign-in may redirect the caller with their session token.')
param consoleOrigins array

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: appName
}

resource auth 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: { enabled: true, runtimeVersion: '~1' }
    globalValidation: {
      requireAuthentication: true
      // Browsers (the console, approve links) are redirected to sign in; programs send a token.
      unauthenticatedClientAction: 'RedirectToLoginPage'
      redirectToProvider: 'azureactivedirectory'
      // Each of these has its own check or returns only public data.
      excludedPaths: [
        '/api/v1/health/live'
        '/api/internal/relay'
        '/api/hooks'
      ]
    }
    httpSettings: { requireHttps: true }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
          clientId: clientId
          clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
        }
        validation: { allowedAudiences: [clientId, 'api://${clientId}'] }
      }
    }
    login: { tokenStore: { enabled: false }, allowedExternalRedirectUrls: consoleOrigins }
  }
}
