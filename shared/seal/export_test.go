package seal

import "time"

// SettleAfter makes a new key of k seal after d.
func (k *Keys) SettleAfter(d time.Duration) { k.settle = d }
