"""Rules that every stack must keep, checked at each preview and update: `pulumi up --policy-pack policies`."""
