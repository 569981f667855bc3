// The JSON Schema of loam.yaml for editors, after docs/loam-yaml.md.
// tests/system/test_spec_schema.py holds it against the parser over one corpus: what the parser
// takes the schema takes, and what the schema lets pass although the parser refuses it is marked
// there case by case (references, files, ranges of sizes).
#include "spec/project.h"

namespace loam::spec {
namespace {

constexpr std::string_view kSchema = R"json({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "loam.yaml",
  "description": "One project: an environment, steps that train, services that answer.",
  "type": "object",
  "additionalProperties": false,
  "required": ["name"],
  "allOf": [
    {"not": {"required": ["train", "steps"]}},
    {"not": {"required": ["serve", "services"]}}
  ],
  "properties": {
    "name": {"$ref": "#/$defs/name", "description": "The project's name, and the name of the model and service of the short forms."},
    "env": {"$ref": "#/$defs/env", "description": "The root filesystem of every step and service that has none of its own."},
    "mounts": {
      "description": "Folders of the host that jobs see; the only way to paths outside the project.",
      "type": "array", "maxItems": 256, "items": {"$ref": "#/$defs/mount"}
    },
    "vars": {
      "description": "Environment variables of every step and service. Values are taken as written; $NAME is never expanded.",
      "type": "object", "maxProperties": 1024,
      "propertyNames": {"$ref": "#/$defs/variable"},
      "additionalProperties": {"type": ["string", "number", "boolean"]}
    },
    "secrets": {
      "description": "Names of environment variables whose values come from the caller's environment or `loam secret`.",
      "type": "array", "maxItems": 1024, "uniqueItems": true, "items": {"$ref": "#/$defs/variable"}
    },
    "keep": {
      "description": "What `loam store gc` may not remove.",
      "type": "object", "additionalProperties": false,
      "properties": {
        "runs": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": 100, "description": "The newest runs of the project."},
        "versions": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": 20, "description": "The newest versions of each model."},
        "attempts": {"$ref": "#/$defs/duration", "default": "7d", "description": "How long the files of attempts are kept."}
      }
    },
    "data": {
      "description": "Files that jobs read in place and that are left out of the snapshot.",
      "type": "object", "maxProperties": 256,
      "propertyNames": {"$ref": "#/$defs/name"},
      "additionalProperties": {"$ref": "#/$defs/source"}
    },
    "steps": {
      "description": "Finite work by name.",
      "type": "object", "minProperties": 1,
      "propertyNames": {"$ref": "#/$defs/jobName"},
      "additionalProperties": {"$ref": "#/$defs/step"}
    },
    "train": {"$ref": "#/$defs/step", "description": "Short form of steps: for one step, named train."},
    "services": {
      "description": "Models that answer, by name.",
      "type": "object", "minProperties": 1,
      "propertyNames": {"$ref": "#/$defs/jobName"},
      "additionalProperties": {"$ref": "#/$defs/service"}
    },
    "serve": {
      "description": "Short form of services: for one service, named as the project, of the model named as the project.",
      "anyOf": [
        {"$ref": "#/$defs/handler"},
        {"$ref": "#/$defs/serviceBody", "required": ["handler"]}
      ]
    },
    "account": {"$ref": "#/$defs/name", "description": "The account, of the node's configuration, whose shares and quota the project's jobs count against."},
    "endpoint": {
      "description": "Where all services of the project answer.",
      "type": "string", "default": "127.0.0.1:8000",
      "pattern": "^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\\[[0-9A-Fa-f:.]{3,}\\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
    }
  },
  "$defs": {
    "name": {
      "type": "string", "maxLength": 63,
      "pattern": "^(?!req-)(?![0-9]+$)[A-Za-z0-9][A-Za-z0-9._-]*$"
    },
    "jobName": {"$ref": "#/$defs/name", "not": {"const": "gateway"}},
    "variable": {"type": "string", "maxLength": 255, "pattern": "^(?!LOAM_)[A-Za-z_][A-Za-z0-9_]*$"},
    "duration": {
      "type": "string",
      "pattern": "^(?!\\s*0[0-9])\\s*([0-9]+(\\.[0-9]*)?(ns|us|ms|s|m|h|d))+\\s*$"
    },
    "size": {
      "anyOf": [
        {"type": "string", "pattern": "^(?!\\s*0[0-9])\\s*[0-9]+(\\.[0-9]*)?\\s*(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)?\\s*$"},
        {"type": "integer", "minimum": 16777216}
      ]
    },
    "projectPath": {
      "description": "Relative to the folder of the file; never out of it; nothing is expanded.",
      "type": "string", "maxLength": 1024,
      "pattern": "^(?![/~])(?!(.*/)?\\.\\.(/|$))(?!.*\\$[A-Za-z_{])(?!(\\.?/)*\\.?$)[^\\u0000-\\u001f\\u007f]*\\S[^\\u0000-\\u001f\\u007f]*$"
    },
    "hostPath": {
      "type": "string", "maxLength": 1024,
      "pattern": "^(?!(.*/)?\\.\\.(/|$))(?!.*\\$[A-Za-z_{])/[^\\u0000-\\u001f\\u007f]*$"
    },
    "env": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "base": {
          "description": "host: the machine as it is, read-only. debian:SUITE: built from the distribution's packages and locked.",
          "type": "string", "default": "host", "pattern": "^(host|debian:[a-z][a-z0-9.-]{0,62})$",
          "examples": ["debian:bookworm", "host"]
        },
        "apt": {
          "description": "Debian packages, where wanted with =VERSION.",
          "type": "array",
          "uniqueItems": true,
          "items": {"type": "string", "pattern": "^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](=[A-Za-z0-9.+:~-]+)?$"}
        },
        "pip": {
          "description": "Requirements, or the name of a requirements file. The whole closure is locked by hash.",
          "anyOf": [
            {"$ref": "#/$defs/projectPath"},
            {"type": "array", "items": {"$ref": "#/$defs/requirement"}}
          ]
        }
      },
      "if": {"required": ["apt"], "properties": {"apt": {"minItems": 1}}},
      "then": {"required": ["base"], "properties": {"base": {"not": {"const": "host"}}}}
    },
    "requirement": {
      "type": "string",
      "pattern": "^\\s*[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\\s*(\\[[^\\]]*\\])?\\s*\\(?\\s*((===|==|~=|!=|<=|>=|<|>)\\s*[A-Za-z0-9.*+!_-]+\\s*(,\\s*(===|==|~=|!=|<=|>=|<|>)\\s*[A-Za-z0-9.*+!_-]+\\s*)*)?\\)?\\s*(;.*?)?(\\s--hash=sha256:[0-9a-f]{64})*\\s*$",
      "not": {"pattern": "://|\\s@|\\.whl$"}
    },
    "mount": {
      "type": "object", "additionalProperties": false, "required": ["from", "to"],
      "properties": {
        "from": {
          "description": "A folder of the host.",
          "$ref": "#/$defs/hostPath", "not": {"pattern": "^[/.]*(/(proc|sys|dev)(/.*)?)?/*$"}
        },
        "to": {
          "description": "Where jobs see it.",
          "$ref": "#/$defs/hostPath",
          "not": {"pattern": "^[/.]*(/(proc|sys|dev|loam)(/.*)?|/(project|bin|boot|etc|home|lib|lib64|run|sbin|tmp|usr|var))?/*$"}
        },
        "mode": {"enum": ["ro", "rw"], "default": "ro", "description": "ro: read only. rw: jobs write the host's files."}
      }
    },
    "source": {
      "anyOf": [
        {"$ref": "#/$defs/pattern"},
        {
          "type": "object", "additionalProperties": false, "required": ["files"],
          "properties": {
            "files": {"$ref": "#/$defs/pattern", "description": "A pattern: * ? [a-z] within a name, ** over folders."},
            "fingerprint": {
              "enum": ["stat", "sample", "full"], "default": "stat",
              "description": "What tells changed data: names, sizes and times; also samples of the content; or all content."
            }
          }
        }
      ]
    },
    "pattern": {"$ref": "#/$defs/projectPath", "pattern": "^(\\\\.|[^\\[]|\\[[!^]?[^/][^\\]/]*\\])*$", "not": {"pattern": "/$"}},
    "resources": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "cpus": {"type": "number", "minimum": 0.1, "maximum": 4096, "default": 1, "description": "CPU cores; fractions are shares."},
        "memory": {"$ref": "#/$defs/size", "default": "1GiB", "description": "Such as 2GiB or 512MB; at least 16MiB."},
        "pin": {"type": "boolean", "default": false, "description": "Whole cores that no other job uses."},
        "hugepages": {"type": ["string", "integer"], "description": "That much in huge pages, besides memory; such as 512MiB."},
        "gpus": {"$ref": "#/$defs/gpuRequest", "default": 0},
        "devices": {
          "description": "Devices that the node's configuration declares, by name.",
          "type": "object", "maxProperties": 64,
          "propertyNames": {"$ref": "#/$defs/name", "not": {"enum": ["gpu", "gpus"]}},
          "additionalProperties": {"$ref": "#/$defs/deviceRequest"}
        },
        "time": {"$ref": "#/$defs/duration", "description": "The attempt is ended after it. Without it there is no limit."}
      }
    },
    "priority": {
      "description": "Higher goes first in the queue, and may preempt lower. Below 0 is for everybody; above it, on a node that users share, for root and the admins.",
      "type": "integer", "minimum": -1000, "maximum": 1000, "default": 0
    },
    "gpuRequest": {
      "description": "How many, or which: {count: 2, model: H100, memory: 40GiB}.",
      "anyOf": [
        {"$ref": "#/$defs/deviceRequest/anyOf/0"},
        {"type": "object", "additionalProperties": false,
          "properties": {
            "count": {"$ref": "#/$defs/deviceRequest/anyOf/1/properties/count"},
            "model": {"$ref": "#/$defs/deviceRequest/anyOf/1/properties/model"}, "memory": {"$ref": "#/$defs/deviceRequest/anyOf/1/properties/memory"},
            "share": {"const": "time-slice", "description": "A turn of each with other jobs. Nothing enforces it."}
          }
        }
      ]
    },
    "deviceRequest": {
      "description": "How many, or which: {count: 2, model: H100, memory: 40GiB}.",
      "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 1024},
        {
          "type": "object", "additionalProperties": false,
          "properties": {
            "count": {"type": "integer", "minimum": 0, "maximum": 1024, "default": 1},
            "model": {"type": ["string", "number", "boolean"], "description": "A part of the model's name, in any case."},
            "memory": {"$ref": "#/$defs/size", "description": "Of each, at least."}
          }
        }
      ]
    },
    "network": {"enum": ["host", "none"], "description": "host: the machine's network. none: no network."},
    "sandbox": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "require": {
          "description": "Guards without which the job is refused rather than run with a note.",
          "type": "array",
          "items": {"enum": ["namespaces", "seccomp", "memory", "cpu", "processes", "network", "devices", "idmap", "user_namespaces", "overlay", "kill", "no_new_privs", "pinning", "hugepages"]}
        }
      }
    },
    "command": {
      "description": "Text goes to `sh -c`; a list is executed as it is.",
      "anyOf": [
        {"type": "string", "pattern": "\\S"},
        {
          "type": "array", "minItems": 1,
          "prefixItems": [{"type": ["string", "number", "boolean"], "minLength": 1}],
          "items": {"type": ["string", "number", "boolean"]}
        }
      ]
    },
    "parameter": {
      "anyOf": [
        {"type": ["string", "number", "boolean", "null"]},
        {"type": "array", "items": {"$ref": "#/$defs/parameter"}},
        {"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": {"$ref": "#/$defs/parameter"}}
      ]
    },
    "step": {
      "type": "object", "additionalProperties": false, "required": ["run"],
      "dependentRequired": {"retry_on": ["retries"]},
      "properties": {
        "run": {"$ref": "#/$defs/command"},
        "ranks": {"type": "integer", "minimum": 1, "maximum": 256, "description": "That many processes start together, each with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT; resources are of each."},
        "after": {
          "description": "Steps that must have succeeded.",
          "type": "array", "uniqueItems": true, "items": {"type": "string", "minLength": 1}
        },
        "params": {
          "description": "What loam.params() returns and LOAM_PARAMS carries as JSON.",
          "type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": {"$ref": "#/$defs/parameter"}
        },
        "sweep": {
          "description": "One task for each combination of these parameters: lists of values, or ranges such as 1..5. At most 1000 tasks.",
          "type": "object", "minProperties": 1, "propertyNames": {"minLength": 1},
          "additionalProperties": {
            "anyOf": [
              {"type": "array", "minItems": 1, "uniqueItems": true, "items": {"$ref": "#/$defs/parameter"}},
              {"type": "string", "pattern": "^-?[0-9]+\\.\\.-?[0-9]+$"}
            ]
          }
        },
        "tasks": {
          "description": "How the tasks of a sweep run. share: sandbox: one after another in the same sandbox, in as many of them as resources hold; without it each has its own.",
          "type": "object", "additionalProperties": false, "required": ["share"],
          "properties": {"share": {"enum": ["sandbox"]}}
        },
        "resources": {"$ref": "#/$defs/resources"},
        "network": {"$ref": "#/$defs/network", "default": "host"},
        "sandbox": {"$ref": "#/$defs/sandbox"},
        "scratch": {"enum": ["memory", "disk"], "default": "memory", "description": "Where files go that are written outside the project."},
        "retries": {"type": "integer", "minimum": 0, "maximum": 100, "default": 0, "description": "Further tries after a failed attempt."},
        "retry_on": {
          "description": "Which failures are tried again, and cost a retry. Without it every failure.",
          "type": "array", "minItems": 1, "uniqueItems": true,
          "items": {
            "type": "string",
            "pattern": "^(node|oom|time|start|output|signal(:(SIG)?(USR1|USR2|HUP|INT|QUIT|ALRM|TERM|KILL|SEGV|BUS|ABRT|ILL|FPE|PIPE))?|exit(:([1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?)$",
            "examples": ["node", "oom", "exit:75"]
          }
        },
        "checkpoint": {
          "description": "The folder that outlives an attempt, so that the next one resumes from the last completed checkpoint.",
          "anyOf": [
            {"$ref": "#/$defs/outputPath"},
            {
              "type": "object", "additionalProperties": false, "required": ["path"],
              "properties": {
                "path": {"$ref": "#/$defs/outputPath"},
                "match": {
                  "description": "Names of completed checkpoints in the folder.",
                  "$ref": "#/$defs/pattern", "default": "checkpoint-*", "pattern": "^(?!\\.loam)(?!\\*\\*$)[^/]*$"
                },
                "signal": {"enum": ["USR1", "USR2", "HUP", "INT", "QUIT", "ALRM", "TERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGQUIT", "SIGALRM", "SIGTERM"], "default": "USR1", "description": "Sent before a preemption to the processes that catch it."},
                "grace": {"$ref": "#/$defs/duration", "default": "30s", "description": "How long they may take to end; 1s to 24h."},
                "keep": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 3, "description": "The newest checkpoints that stay."},
                "resume": {
                  "description": "Arguments for the end of the command where there is a checkpoint; {path} is its path.",
                  "anyOf": [
                    {"type": "string", "pattern": "\\S"},
                    {"type": "array", "items": {"type": ["string", "number", "boolean"]}}
                  ]
                }
              }
            }
          ]
        },
        "priority": {"$ref": "#/$defs/priority"},
        "preemptible": {"type": "boolean", "description": "May be ended for more urgent work and queued again. With checkpoint true, else false by default."},
        "code": {
          "description": "What of the project counts when a step is checked for changes. Without it everything does.",
          "type": "array", "minItems": 1, "items": {"$ref": "#/$defs/projectPath"}
        },
        "output": {
          "description": "The folder that becomes the model's next version.",
          "anyOf": [
            {"$ref": "#/$defs/outputPath"},
            {
              "type": "object", "additionalProperties": false, "required": ["path"],
              "properties": {
                "model": {"$ref": "#/$defs/name", "description": "The model's name; the project's where left out."},
                "path": {"$ref": "#/$defs/outputPath"}
              }
            }
          ]
        },
        "env": {"$ref": "#/$defs/env"}
      }
    },
    "outputPath": {"$ref": "#/$defs/projectPath", "not": {"pattern": "[*?]"}},
    "handler": {
      "description": "FILE.py:FUNCTION.",
      "type": "string",
      "pattern": "^(?![/~])(?!(.*/)?\\.\\.(/|$))(?!.*\\$[A-Za-z_{])[^\\u0000-\\u001f\\u007f]+\\.py:[A-Za-z_][A-Za-z0-9_]*$"
    },
    "serviceBody": {
      "type": "object", "additionalProperties": false,
      "properties": {
        "model": {
          "description": "The newest version, or MODEL@N for that one.",
          "type": "string", "pattern": "^(?!req-)(?![0-9]+(@|$))[A-Za-z0-9][A-Za-z0-9._-]{0,62}(@[1-9][0-9]{0,8})?$"
        },
        "handler": {"$ref": "#/$defs/handler"},
        "resources": {
          "description": "Of each replica.",
          "type": "object", "additionalProperties": false,
          "properties": {
            "cpus": {"$ref": "#/$defs/resources/properties/cpus"},
            "memory": {"$ref": "#/$defs/resources/properties/memory"},
            "pin": {"$ref": "#/$defs/resources/properties/pin"},
            "hugepages": {"$ref": "#/$defs/resources/properties/hugepages"},
            "gpus": {"$ref": "#/$defs/resources/properties/gpus"},
            "devices": {"$ref": "#/$defs/resources/properties/devices"}
          }
        },
        "network": {"$ref": "#/$defs/network", "default": "none"},
        "sandbox": {"$ref": "#/$defs/sandbox"},
        "batch": {
          "description": "How requests are put together while the worker is busy.",
          "type": "object", "additionalProperties": false,
          "properties": {
            "max": {"type": "integer", "minimum": 1, "maximum": 1024, "default": 32, "description": "Rows in one call."},
            "delay_max": {"$ref": "#/$defs/duration", "default": "5ms", "description": "How long a request may wait for others; at most 10s."}
          }
        },
        "priority": {"$ref": "#/$defs/priority"},
        "replicas": {
          "description": "A fixed number, or from how few to how many as requests come.", "default": 1,
          "oneOf": [
            {"type": "integer", "minimum": 1, "maximum": 256},
            {
              "type": "object", "additionalProperties": false, "required": ["max"],
              "properties": {
                "min": {"type": "integer", "minimum": 1, "maximum": 256, "default": 1},
                "max": {"type": "integer", "minimum": 1, "maximum": 256}
              }
            }
          ]
        },
        "env": {"$ref": "#/$defs/env"}
      }
    },
    "service": {"$ref": "#/$defs/serviceBody", "required": ["model", "handler"]}
  }
})json";

}  // namespace

Json json_schema() {
  auto schema = Json::parse(kSchema);
  LOAM_ASSERT(schema.has_value());  // a text of this file, which a test reads
  return std::move(*schema);
}

}  // namespace loam::spec
