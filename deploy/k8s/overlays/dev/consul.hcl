server = true
bootstrap_expect = 1
data_dir = "/consul/data"
client_addr = "0.0.0.0"
log_level = "warn"
disable_update_check = true # it asks nobody outside
connect {
  enabled = true # its authority signs the certificates of the services
}
ports {
  grpc = 8502 # where it does
}
acl {
  enabled = true
  default_policy = "deny"
  enable_token_persistence = true
}
