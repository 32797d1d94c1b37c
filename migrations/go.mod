module souk/migrations

go 1.26.7
