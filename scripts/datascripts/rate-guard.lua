-- Closes clients that open connections too fast: more than LIMIT within WINDOW seconds, and every
-- further connection is reset until the client has been quiet for PENALTY seconds.
--
-- A client's window begins with its first connection and ends by itself, with the entry's lifetime.
-- Workers share the tables. Two connections of one client that two workers decide in the same
-- instant may be counted as one: this guards against floods, it does not keep accounts.

local LIMIT, WINDOW, PENALTY = 20, 10, 60

local client = avi.vs.client_ip()

-- An extension of 0 only looks: by itself a lookup would make the entry live longer.
if avi.vs.table_lookup("abusers", client, 0) then
  -- Who keeps trying stays out.
  avi.vs.table_refresh("abusers", client, PENALTY)
  avi.vs.log("still too fast")
  avi.vs.close_conn(true)
  return
end

local count, remaining = avi.vs.table_lookup("connections", client, 0)
count = (count or 0) + 1

if count > LIMIT then
  -- With no room among the abusers it stays counted, and out until its window ends.
  if avi.vs.table_insert("abusers", client, count, PENALTY) then
    avi.vs.table_remove("connections", client)
  end
  avi.vs.log("too fast: ", count, " connections in ", WINDOW, " s")
  avi.vs.close_conn(true)
  return
end

-- An insert keeps the value that is there, so that is removed first. The new entry ends when the
-- old one would have: the window does not move.
avi.vs.table_remove("connections", client)
if not avi.vs.table_insert("connections", client, count, remaining or WINDOW) then
  -- More clients than `entries` under [instance.tables]: better uncounted than shut out.
  avi.vs.log("not counted, the table is full")
end
