"""How calls are spread over the servers behind a target, and when they are tried again."""

import json

_RETRIED = ("Moderate", "ModerateBatch", "GetInfo")

SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Servers that are starting, draining or stalled get no calls.
        "healthCheckConfig": {"serviceName": "ready"},
        "methodConfig": [
            {
                "name": [
                    {"service": "guard_service.v1.GuardService", "method": method}
                    for method in _RETRIED
                ],
                # A server's pushback replaces the backoff.
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ],
        # When more than a few calls in a row fail, retries stop: they would feed the overload.
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)
