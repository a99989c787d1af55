-- Keeps clients of one network together: its clients get the same server, also when one of them
-- comes back with another address of it, as mobile and office networks hand them out.
--
-- Nothing is remembered. Every balancer with the same servers comes to the same answer, and when a
-- server goes down only its own clients move. The pool must be `algorithm = "consistent-hash"`: by
-- itself it hashes the client's whole address, and here the first three bytes of it (a /24).

local client = avi.vs.client_ip()
local network = string.match(client, "^(%d+%.%d+%.%d+)%.%d+$")

-- What is no IPv4 address stays a whole one.
avi.pool.chash(network or client)
