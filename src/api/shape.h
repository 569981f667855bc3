// The shapes of JSON documents in a short notation, from which come the JSON Schemas of the node's
// OpenAPI document and the check of what clients send: one text, so that neither drifts.
//
//   "string" "integer" "number" "boolean" "any"     with '?' also null
//   "a|b|c"                                         one of these words
//   "Job"                                           (capital) the shape of that name
//   ["string"]   {"*": "integer"}                   a list; a map from any name
//   {"run": "integer", "why?": "string"}            an object; '?' after a key: may be left out
//   "integer -- milliseconds"                       a description, after any of the words
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace loam::api {

enum class ShapeUse {
  answer,   // has the keys of its shape and no others
  request,  // a key that may be left out may also be null; unknown ones are passed over
};
Json schema_of(const Json& shape, ShapeUse use);

// A request's document against its shape (no named ones within). invalid: names place, finding and
// expectation. Keys that the shape does not know are passed over: a newer client may have more to say.
Result<void> check_shape(const Json& shape, const Json& value, const std::string& place);

}  // namespace loam::api
