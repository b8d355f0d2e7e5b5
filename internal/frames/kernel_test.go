package frames

import "testing"

func TestOutDiscards(t *testing.T) {
	const snmp = "Ip: Forwarding OutRequests OutDiscards OutNoRoutes\nIp: 2 100 7 1\nIcmp: InMsgs OutDiscards\nIcmp: 5 6\n"
	const snmp6 = "Ip6OutRequests                  \t5\nIp6OutDiscards                  \t3\n"
	for _, c := range []struct {
		table, name string
		want        uint64
		fails       bool
	}{
		{snmp, "Ip:", 7, false},
		{snmp, "Icmp:", 6, false},
		{snmp6, "Ip6OutDiscards", 3, false},
		{snmp6, "Ip:", 0, true},
		{"Ip: OutRequests OutDiscards\nIp: 1\n", "Ip:", 0, true},
		{"Ip6OutDiscards many\n", "Ip6OutDiscards", 0, true},
		{"", "Ip:", 0, true},
	} {
		got, err := outDiscards(c.table, c.name)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%q, %s: %d, %v, want %d", c.table, c.name, got, err, c.want)
		}
	}
}
