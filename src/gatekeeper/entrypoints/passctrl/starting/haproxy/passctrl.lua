-- Asks PassCtrl about a request, and keeps the answer in variables of the transaction:
--
--   http-request lua.passctrl http://@PASSCTRL_HOST@:@PASSCTRL_PORT@/haproxy/@ENDPOINT@ 5000
--
--   txn.passctrl_decision   "allow", or "deny"; nothing when the script itself failed
--   txn.passctrl_status     the status of a refusal; 503 when there was no answer
--   txn.passctrl_challenge  WWW-Authenticate of a refusal, when there is one
--   txn.passctrl_location   where to log in, when the client is to be sent there
--   txn.passctrl_<header>   each header of the answer that begins with "x-", as x_user for X-User
--
-- HAProxy must let through only what is "allow". Needs HAProxy 2.8 or newer.

-- What is said of the connection to HAProxy is not said of the one to PassCtrl (RFC 9110
-- section 7.6.1), the question has no body, and these are told by HAProxy alone.
local LEFT_OUT = {
    ["connection"] = true, ["keep-alive"] = true, ["proxy-connection"] = true,
    ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true,
    ["content-length"] = true, ["expect"] = true, ["host"] = true,
    ["x-forwarded-method"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-proto"] = true,
    ["x-forwarded-host"] = true, ["x-forwarded-for"] = true,
}

-- What the application will get: HAProxy writes a request of HTTP/2 in origin form, and one of
-- HTTP/1.1 as it came.
local function target(txn)
    local version = txn.sf:req_ver()
    if version == "1.1" or version == "1.0" then
        return txn.sf:url()
    end
    return txn.sf:pathq()
end

-- The headers of the question: the client's, with each of several values, then HAProxy's own.
local function question(txn)
    local headers = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not LEFT_OUT[name] then
            headers[name] = {}
            for index = 0, #values do
                table.insert(headers[name], values[index])
            end
        end
    end
    headers["x-forwarded-method"] = { txn.sf:method() }
    headers["x-forwarded-uri"] = { target(txn) or "" }
    headers["x-forwarded-proto"] = { txn.sf:ssl_fc() == "1" and "https" or "http" }
    headers["x-forwarded-host"] = { txn.sf:req_hdr("host") }
    headers["x-forwarded-for"] = { txn.sf:src() }
    return headers
end

local function refuse(txn, status)
    txn:set_var("txn.passctrl_decision", "deny")
    txn:set_var("txn.passctrl_status", status)
end

core.register_action("passctrl", { "http-req" }, function(txn, url, timeout)
    refuse(txn, 503)

    local headers = question(txn)
    -- A whole URL or "*" (RFC 9112 section 3.2) would reach the application as it is: only a path
    -- is one thing for everybody.
    if headers["x-forwarded-uri"][1]:sub(1, 1) ~= "/" then
        return refuse(txn, 403)
    end

    local answer = core.httpclient():get {
        url = url,
        headers = headers,
        timeout = tonumber(timeout),
    }
    -- No answer has status 0, one that is no HTTP 502 or the like: neither is 200.
    if not answer or not answer.headers then
        return
    end
    if answer.status == 200 then
        for name, values in pairs(answer.headers) do
            if name:sub(1, 2) == "x-" then
                txn:set_var("txn.passctrl_" .. name:gsub("-", "_"), values[0])
            end
        end
        txn:set_var("txn.passctrl_decision", "allow")
        return
    end

    refuse(txn, answer.status)
    local challenge = answer.headers["www-authenticate"]
    if challenge then
        txn:set_var("txn.passctrl_challenge", challenge[0])
    end
    local location = answer.headers["location"]
    if location and answer.status >= 300 and answer.status < 400 then
        txn:set_var("txn.passctrl_location", location[0])
    end
end, 2)
