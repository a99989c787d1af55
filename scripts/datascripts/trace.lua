-- Writes into the connection log what a flow began with: how long its first packet is, and the
-- first bytes of it. trace-response.lua adds what the server answered. It decides nothing: put it
-- first among a service's `datascripts`, and whatever decides goes on as before.
--
--   $ lb flows --json | jq -r '.[].ds_log'          while flows go on
--   $ jq -r '"\(.client) \(.ds_log)"' edge.jsonl     once they have ended
--
-- The log of a flow holds 256 characters, so little is shown. Of TCP it is the SYN, which carries
-- no data as a rule.

local SHOWN = 12

local payload = avi.l4.read()
local head = string.gsub(string.sub(payload, 1, SHOWN), ".", function(byte)
  return string.format("%02x", string.byte(byte))
end)
avi.vs.log("> ", #payload, " bytes ", head)
