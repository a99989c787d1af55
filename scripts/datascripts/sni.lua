-- Chooses by the server name that a TLS client asks for, without terminating TLS: the name stands in
-- the clear in its ClientHello (RFC 6066, section 3).

local tls = require "Default-TLS"

-- Pools by name, in lower case.
local pools = {
  ["shop.test"] = "shop",
  ["mail.test"] = "mail",
}

-- A collect that has to wait begins the script anew once there is as much, so the payload is the
-- whole ClientHello in the end, however it was cut.
local buffered = avi.l4.collect(20)
local payload = avi.l4.read()
local wanted = tls.get_req_buffer_size(payload)
if buffered < wanted then
  avi.l4.collect(wanted)
end

if not tls.sanity_check(payload) then
  avi.vs.log("not TLS")
  avi.vs.close_conn(true)
else
  -- nil: it asks for none, or the ClientHello is malformed. The service's pool has a certificate
  -- to show, or an alert to send.
  local name = tls.get_sni(tls.parse_record(payload))
  avi.vs.log(name or "no name")
  local pool = pools[string.lower(name or "")]
  if pool then
    avi.pool.select(pool)
  end
end
avi.l4.ds_done()
