-- What request.lua does for Firstpacket: each client stays at the server that is written down.
local pins = {}

core.register_action("pick", { "tcp-req" }, function(txn)
    local client = txn.f:src()
    local server = pins[client]
    if not server then
        server = "b"
        pins[client] = server
    end
    txn:set_var("txn.server", server)
end, 0)
