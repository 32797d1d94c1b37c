package gateway

// DocumentLife is how long a service's document is good for.
const DocumentLife = documentLife
