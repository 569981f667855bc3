// The node's HTTP API as one document (OpenAPI 3.1): what the node answers at /v1/openapi.json and
// `loam schema --api` prints. It is made from short descriptions, one for each of the node's routes
// (openapi_operations.cc), by which the node also checks what it is sent.
//
// How it is held true: the node's document is made from its own table of routes, the program's from
// the descriptions; tests/system/test_api.py compares them and holds every answer against its schema.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace loam::api {

// "GET /v1/runs/:id" → its description; null: none of that name. Keys:
//   summary    for people
//   query      shape of the query, each of its values a text
//   takes      shape of the body; absent: there is none
//   returns, creates   shape of the answer of a 200, 201
//   streams    media type of a body without an end; events: {KIND: shape} where it is SSE
//   upgrades   the protocol that follows a 101
//   refuses    {"409": "why"}
//   scope      that a token needs: admin; local: none has it. Left out: read for GET, else submit
const Json& operation(const std::string& name);
std::vector<std::string> operation_names();
const Json& named_shapes();
const Json& operation_shapes();  // all of them, by name

Json openapi_document(const std::vector<std::string>& operations);

}  // namespace loam::api
