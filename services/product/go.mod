module souk/services/product

go 1.26.7

require (
	souk/migrations v0.0.0
	souk/shared v0.0.0
)

replace (
	souk/migrations => ../../migrations
	souk/shared => ../../shared
)
