-- Moves clients from one release (blue) to the next (green), network by network. Each release is a
-- pool group, in which the other release stands in when no server of its own is up.
--
-- To move more clients add their prefix and `lb reload`: new flows go by the new list, established
-- ones stay where they are. A prefix of whole bytes ends with a dot.

local GREEN = {
  "192.0.2.128", -- the release's tester, this very address
  "198.51.100.", -- the branch office
  "10.20.", -- the lab
}

local function is_green(client)
  for _, prefix in ipairs(GREEN) do
    local part = string.endswith(prefix, ".")
    if client == prefix or part and string.beginswith(client, prefix) then
      return true
    end
  end
  return false
end

if is_green(avi.vs.client_ip()) then
  avi.vs.log("green")
  avi.poolgroup.select("green")
else
  avi.vs.log("blue")
  avi.poolgroup.select("blue")
end
