"""What leaves this server for addresses that others wrote: webhooks and mail. Knows no job and no store."""
