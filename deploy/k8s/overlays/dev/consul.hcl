server = true
bootstrap_expect = 1
data_dir = "/consul/data"
client_addr = "0.0.0.0"
log_level = "warn"
acl {
  enabled = true
  default_policy = "deny"
  enable_token_persistence = true
}
