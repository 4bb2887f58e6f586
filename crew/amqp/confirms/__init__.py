"""Publisher confirms: the promise of one message, those not confirmed yet, and the timeout of a confirm."""
