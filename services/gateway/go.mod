module souk/services/gateway

go 1.26.7

require souk/shared v0.0.0

replace souk/shared => ../../shared
