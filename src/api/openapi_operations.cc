// Each of the node's routes in a few lines; the notation of shapes is shape.h's, the keys openapi.h's.
#include "api/openapi.h"

#include "base/result.h"

namespace loam::api {
namespace {

constexpr const char* kOperations = R"json({
"GET /v1/openapi.json": {"summary": "this document, of this node", "returns": "any"},
"GET /v1/node": {"summary": "the node: what it has, what it gave, its configuration", "returns": "Node"},
"POST /v1/node/stop": {"scope": "admin",
  "summary": "ends the node; running attempts go on, unless they are to be ended first",
  "takes": {"stop_jobs?": "boolean"}, "returns": {"stopping": "boolean"},
  "refuses": {"403": "only the node's owner"}},
"POST /v1/node/reload": {"scope": "admin",
  "summary": "reads the configuration again; with a problem in it nothing changes",
  "returns": "Config", "refuses": {"403": "only the node's owner", "400": "every problem of the file, a line each"}},
"POST /v1/node/backup": {"scope": "admin",
  "summary": "everything that the node keeps, as frames of a tar.zst",
  "query": {"secrets?": "0|1"}, "upgrades": "loam-backup",
  "refuses": {"403": "only the node's owner", "409": "the store is being collected or backed up"}},
"GET /v1/doctor": {"summary": "what this host can do for jobs, and how to get what it cannot",
  "returns": {"checks": [{"name": "string", "ok": "boolean", "finding": "string", "mend": "string"}], "facts": "any"}},
"GET /v1/devices": {"summary": "what the machine hands out, who has it, why not", "returns": "Devices"},
"POST /v1/devices/:device/drain": {"scope": "admin",
  "summary": "takes a device out of service", "takes": {"reason": "string -- at most 200 bytes"},
  "returns": {"drained": "string"}, "refuses": {"403": "only the node's owner and its admins", "404": "no such device"}},
"POST /v1/devices/:device/resume": {"scope": "admin",
  "summary": "gives a drained device back", "returns": {"resumed": "string"},
  "refuses": {"403": "only the node's owner and its admins", "404": "no such device"}},

"POST /v1/runs": {
  "summary": "a submission: answered once the snapshot is in the store and the run in the database",
  "takes": {
    "verb": "up|train|serve|run", "project": "string -- the folder, absolute", "file?": "string", "text?": "string -- of loam.yaml",
    "force?": "boolean", "hold?": "boolean", "account?": "string", "priority?": "integer", "secrets?": {"*": "string"},
    "command?": {"argv": ["string"], "terminal?": "boolean", "standard_input?": "boolean", "attach?": "boolean",
      "cpu_milli?": "integer", "memory_bytes?": "integer", "time_ms?": "integer", "idle_ms?": "integer", "network?": "host|none",
      "environment?": {"*": "string"}, "env?": "string", "columns?": "integer", "rows?": "integer",
      "ranks?": "integer", "pin?": "boolean", "huge_bytes?": "integer", "devices?": ["any"]},
    "proxy_environment?": {"*": "string"}},
  "creates": {"run": "integer"},
  "refuses": {"400": "a request that can never be", "403": "an account that is not the caller's", "422": "every problem of the file",
    "429": "as much as may wait does already"}},
"POST /v1/plan": {
  "summary": "what a submission would do now; nothing of it is done",
  "takes": {
    "verb": "up|train|serve", "project": "string -- the folder, absolute", "file?": "string", "text": "string -- of loam.yaml",
    "force?": "boolean", "hold?": "boolean", "account?": "string", "priority?": "integer", "secrets?": {"*": "string"},
    "proxy_environment?": {"*": "string"}},
  "returns": "Plan",
  "refuses": {"400": "a request that can never be", "403": "an account that is not the caller's", "422": "every problem of the file",
    "429": "as much as may wait does already"}},
"GET /v1/runs": {"summary": "one's own runs, newest first", "query": {"limit?": "integer"}, "returns": {"runs": ["Run"]}},
"GET /v1/runs/:id": {"summary": "a run with its jobs and their attempts", "returns": "Run",
  "refuses": {"404": "no such run", "403": "another user's, which an admin may only act on"}},
"GET /v1/runs/:id/events": {
  "summary": "what has happened in a run and what happens, until it has settled",
  "streams": "text/event-stream", "refuses": {"404": "no such run"},
  "events": {
    "run": {"state": "string", "error?": "string?"},
    "env": {"env": "string", "phase?": "string", "done?": "integer", "total?": "integer", "text?": "string", "state?": "string",
      "digest?": "string", "built?": "boolean", "error?": "string"},
    "lock": {"written": "boolean", "path": "string"}, "step": "any",
    "note": {"text": "string", "lost?": "boolean"}, "service": "any", "endpoint": "any"}},
"GET /v1/jobs": {"summary": "the queue: what runs and waits; with all=1 also what ended, the caller's own",
  "query": {"all?": "0|1", "limit?": "integer -- at most 10000; 1000", "after?": "integer -- next of the answer before"},
  "returns": {"jobs": ["Job"], "more": "integer -- of what runs and waits, that is not in here", "next": "integer? -- for after"}},
"POST /v1/cancel": {"summary": "ends what runs or waits", "takes": {"target": "string"}, "returns": {"cancelled": ["string"]},
  "refuses": {"404": "no such run or job", "409": "it has already ended"}},
"POST /v1/preempt": {"summary": "running jobs save, end, and are queued again",
  "takes": {"target": "string", "why?": "string -- at most 200 bytes"}, "returns": {"preempted": ["string"]},
  "refuses": {"404": "no such run or job", "409": "it does not run"}},
"POST /v1/hold": {"summary": "what waits does not start until it is released", "takes": {"target": "string"},
  "returns": {"held": [{"target": "string", "running": "boolean"}]},
  "refuses": {"404": "no such run or job", "409": "it has ended"}},
"POST /v1/release": {"summary": "lets go what is held", "takes": {"target": "string"},
  "returns": {"released": [{"target": "string", "running": "boolean"}]},
  "refuses": {"403": "held by somebody over its owner", "404": "no such run or job", "409": "it is not held"}},
"GET /v1/why/*target": {"summary": "what a job waits for, who has it, when it may start",
  "returns": {"now_ms": "integer", "jobs": ["Waiting"]}, "refuses": {"404": "no such run or job"}},
"GET /v1/usage": {"summary": "who has had how much of the machine, and what fair share still counts of it",
  "query": {"since_ms?": "integer"}, "returns": {"since_ms": "integer", "until_ms": "integer", "usage": [
    {"account": "string", "user": "string", "attempts": "integer", "cpu_hours": "number", "memory_gib_hours": "number",
      "device_hours": {"*": "number"}, "points": "number"}],
    "store": [{"user": "string", "bytes": "integer", "bytes_max": "integer?"}]}},
"POST /v1/down": {"summary": "stops a project's services and gateway: by its folder, or by its name",
  "takes": {"project?": "string", "name?": "string"}, "returns": {"stopped": ["string"]}},
"GET /v1/logs/*target": {"summary": "an attempt's output", "query": {"follow?": "0|1", "tail?": "integer", "from?": "integer", "stream?": "string -- all"},
  "streams": "application/octet-stream", "refuses": {"404": "no such attempt", "503": "it has not been started yet"}},
"GET /v1/files/*target": {"summary": "what an attempt made or changed; with path the content of one file",
  "query": {"path?": "string"}, "streams": "application/octet-stream",
  "returns": {"files": [{"path": "string", "size_bytes": "integer", "mode": "integer",
    "change": "created|changed|deleted|checkpoint|torn"}]},
  "refuses": {"404": "no such attempt or file", "503": "it has not been started yet"}},
"POST /v1/attach/*target": {"summary": "the terminal or the streams of a job, once it has an attempt", "upgrades": "loam-attach",
  "refuses": {"404": "no such job", "503": "it has ended"}},
"POST /v1/join/*target": {"summary": "one more process in a running attempt's sandbox, or a connection to one of its ports; streams as of attach", "upgrades": "loam-attach",
  "takes?": {"argv?": ["string"], "terminal?": "boolean", "environment?": {"*": "string"}, "port?": "integer"},
  "refuses": {"403": "another user's", "404": "no such job", "503": "it has not started, or has ended"}},
"POST /v1/shell": {"summary": "a terminal in an ended attempt's environment and files: a run to attach to; of a live attempt, what to join",
  "takes": {"target": "string", "argv?": ["string"], "terminal?": "boolean", "environment?": {"*": "string"}},
  "creates": {"run": "integer"}, "returns": {"live": "string -- RUN/STEP/ATTEMPT, for POST /v1/join"}, "refuses": {"400": "what can never be", "404": "no such attempt", "429": "as much as may wait does already", "503": "it has not been started"}},
"GET /v1/models": {"summary": "lines of model versions", "returns": {"models": [{"name": "string", "versions": ["Version"]}]}},
"GET /v1/models/:name": {"summary": "NAME or NAME@N with its files and its record",
  "returns": {"name": "string", "version": "integer", "digest": "string", "tree": "string", "size_bytes": "integer",
    "created_ms": "integer", "run?": "integer", "step?": "string", "imported?": "string", "record": "any",
    "files": [{"path": "string", "size_bytes": "integer", "mode": "integer"}], "versions": ["Version"]},
  "refuses": {"404": "no such model"}},
"POST /v1/models/import": {"summary": "a folder, read with the caller's rights, becomes a version",
  "takes": {"path": "string -- absolute", "name": "string"}, "creates": {"name": "string", "version": "integer",
    "left_out": ["string -- the first 20 of what is no part of a model: .git, sockets, fifos, devices"], "left_out_count": "integer"}},
"DELETE /v1/models/:name": {"summary": "forgets NAME or NAME@N", "returns": {"removed": ["string"]},
  "refuses": {"404": "no such model", "409": "it is being served"}},
"GET /v1/trace/*of": {"summary": "what an answer (req-…), a model or a run came from, top-down",
  "returns": {"of": "string", "request?": "any", "layers": [{"kind": "string", "digest": "string", "record": "any"}]},
  "refuses": {"404": "nothing of that name", "503": "it has no record yet"}},
"POST /v1/lock": {"summary": "writes a project's loam.lock without running anything",
  "takes": {"project": "string -- absolute", "text": "string -- of loam.yaml", "file?": "string", "update?": "boolean",
    "proxy_environment?": {"*": "string"}},
  "streams": "text/event-stream", "events": {"env": "any", "lock": "any", "run": "any"},
  "refuses": {"422": "every problem of the file"}},
"GET /v1/store": {"summary": "what is kept on disk and why",
  "returns": {"trees": "integer", "objects": "integer", "blobs": "integer", "size_bytes": "integer", "disk_free_bytes": "integer",
    "foreign": ["string -- what is not the store's own"], "items": [{"kind": "string", "name": "string", "digest": "string", "size_bytes": "integer", "why": "string"}]}},
"POST /v1/store/verify": {"scope": "admin", "summary": "reads all of the store", "streams": "text/event-stream",
  "events": {"progress": {"done": "integer", "total": "integer"},
    "done": {"damage": [{"what": "string", "finding": "string"}], "error?": "string"}}},
"POST /v1/store/gc": {"scope": "admin", "summary": "removes what nothing keeps", "takes": {"dry_run?": "boolean"},
  "returns": {"removed_trees": "integer", "removed_objects": "integer", "removed_blobs": "integer", "removed_runs": "integer",
    "removed_versions": "integer", "removed_attempts": "integer", "freed_bytes": "integer", "foreign": ["string"]},
  "refuses": {"403": "root's, on a node that users share", "409": "it is being collected or backed up"}},
"POST /v1/tokens": {"scope": "local", "summary": "makes a token that stands for the caller; it is told this once",
  "takes": {"name?": "string", "scope?": "read|submit|admin -- submit", "expires_ms?": "integer"},
  "creates": {"id": "integer", "name": "string", "scope": "read|submit|admin", "created_ms": "integer", "expires_ms": "integer?",
    "used_ms": "integer?", "token": "string"},
  "refuses": {"409": "there is one of that name", "507": "too many"}},
"GET /v1/tokens": {"scope": "local", "summary": "the caller's tokens, without what is secret of them",
  "returns": {"tokens": [{"id": "integer", "name": "string", "scope": "read|submit|admin", "created_ms": "integer",
    "expires_ms": "integer?", "used_ms": "integer?"}]}},
"DELETE /v1/tokens/:token": {"scope": "local", "summary": "revokes a token, by its name or id", "returns": {"revoked": "integer"},
  "refuses": {"404": "the caller has none such"}},
"GET /v1/secrets": {"summary": "names of the caller's secrets", "returns": {"secrets": ["string"]}},
"PUT /v1/secrets/:name": {"summary": "keeps a value", "takes": {"value": "string"}, "returns": {}},
"DELETE /v1/secrets/:name": {"summary": "forgets a value", "returns": {}, "refuses": {"404": "no such secret"}}
})json";

constexpr const char* kShapes = R"json({
"Refusal": {"error": {"code": "string", "text": "string -- for people"},
  "problems?": [{"line": "integer", "column": "integer", "key": "string", "message": "string"}]},
"Config": {"file": "string", "present": "boolean", "read_ms": "integer", "in_force": "any -- every key, defaults too"},
"Node": {"version": "string", "pid": "integer", "started_ms": "integer", "state": "string -- the folder", "rootless": "boolean",
  "single_id": "boolean", "config": "Config", "capacity": {"cpus": "number", "memory_bytes": "integer"},
  "used": {"cpu_milli": "integer", "memory_bytes": "integer"},
  "guards": [{"name": "string", "present": "boolean", "finding": "string", "mend": "string"}],
  "jobs": {"running": "integer", "waiting": "integer"}},
"Devices": {
  "devices": [{"id": "string", "kind": "string", "model": "string", "memory_bytes": "integer", "time_slices": "integer", "numa": "integer?",
    "nodes": ["string"], "state": "free|in use|busy|drained|sliced", "reason": "string",
    "uuid?": "string -- of a GPU or a slice of one", "parent?": "string -- the slice's GPU", "gpu?": "any -- what its driver measures",
    "holders": [{"target": "string", "user": "string", "parts": "integer", "of": "integer"}],
    "drained?": {"by": "string", "since_ms": "integer"}}],
  "driver": "any -- {version, cuda} of NVIDIA's; null: none",
  "cpus": {"pinned": "string", "shared": "string"},
  "huge_pages": {"page_bytes": "integer", "total_bytes": "integer", "given_bytes": "integer"}},
"Run": {"id": "integer", "project": "string", "folder": "string", "user": "string", "verb": "up|train|serve|run|shell",
  "state": "preparing|running|succeeded|failed|cancelled|serving", "error": "string?", "created_ms": "integer",
  "ended_ms": "integer?", "snapshot": "string", "endpoint": "string?", "jobs": ["Job"]},
"Job": {"target": "string", "run": "integer", "name": "string", "kind": "step|replica|gateway|command|shell",
  "state": "blocked|parked|preparing|queued|preempted|held|running|succeeded|failed|cancelled|unchanged|skipped",
  "why": "string?", "error": "string?", "preemptions": "integer", "checkpoint": "string?", "cpu_milli": "integer",
  "memory_bytes": "integer", "request": "any", "user": "string", "project": "string", "created_ms": "integer",
  "ended_ms": "integer?", "model_version": "string?", "account": "string", "priority": "integer", "held_by": "string?",
  "attempts": ["Attempt"],
  "task_counts?": {"done": "integer", "running": "integer", "waiting": "integer", "failed": "integer", "cancelled": "integer"},
  "tasks?": ["any -- of a sweep's step: a Job each, with task, params, metrics"]},
"Attempt": {"number": "integer", "state": "starting|running|ended", "created_ms": "integer", "started_ms": "integer?",
  "ended_ms": "integer?", "folder_kept": "boolean", "devices?": "any", "cpus?": "any", "exit?": "Exit"},
"Exit": {"attempt": "string", "outcome": "string", "code": "integer", "signal": "integer", "error": "string", "device": "string",
  "started_ms": "integer", "ended_ms": "integer", "memory_peak_bytes": "integer", "memory_limit_bytes": "integer",
  "cpu_ns": "integer", "rank?": "integer -- of a gang, who failed first", "missing": [{"guard": "string", "reason": "string"}]},
"Waiting": {"target": "string", "user": "string", "account": "string", "priority": "integer", "state": "string", "waits": "boolean",
  "why": "string?", "held_by": "string?", "quota": "string?", "never": "string?",
  "short_of": [{"what": "string", "model": "string?", "needed": "integer", "free": "integer", "total": "integer",
    "out_of_service": ["string"]}],
  "holders": [{"target": "string?", "user": "string?", "ends_ms": "integer?", "preempted": "boolean"}],
  "ahead": "integer", "ahead_at_least": "boolean", "first_ahead": "Someone?", "expected_start_ms": "integer?",
  "unknown_why": "string?", "more_tasks?": "integer -- of its sweep, waiting in the same state"},
"Plan": {"project": "string", "account": "string", "now_ms": "integer",
  "environments": [{"env": "string", "base": "string", "state": "ready|to be built|to be resolved"}],
  "steps": [{"step": "string", "action": "runs|may run|unchanged", "reason": "new|changed|upstream|unchanged|forced",
    "changed": ["string"], "after": ["string"], "since_run": "integer?", "model_version": "string?", "start": "Start?"}],
  "services": [{"service": "string", "model": "string", "model_version": "string?", "replicas": "integer",
    "replicas_max": "integer -- as many as the load may ask for", "after": "string?",
    "action": "starts|unchanged|fails"}]},
"Start": {"now": "boolean", "why?": "string", "expected_start_ms?": "integer?", "unknown_why?": "string?", "preempts?": ["string"]},
"Someone": {"target": "string?", "user": "string?"},
"Version": {"version": "integer", "digest": "string", "tree": "string", "size_bytes": "integer", "created_ms": "integer",
  "run?": "integer", "step?": "string", "imported?": "string"}
})json";

Json parsed(const char* text) {
  auto json = Json::parse(text);
  LOAM_ASSERT(json.has_value());  // a text of this file
  return std::move(*json);
}

}  // namespace

const Json& operation_shapes() {
  static const Json shapes = parsed(kOperations);
  return shapes;
}

const Json& named_shapes() {
  static const Json shapes = parsed(kShapes);
  return shapes;
}

}  // namespace loam::api
