"""The AWS half: networks, EKS clusters, DNS, load balancers and the edge."""
