#include "api/endpoint.h"

#include <algorithm>

#include "base/text.h"

namespace loam::api {
namespace {

constexpr std::size_t kNameBytesMax = 128;
constexpr std::size_t kReplicasMax = 1024;
constexpr std::size_t kModelsMax = 256;
constexpr std::int64_t kBatchMax = 65'536;
constexpr std::int64_t kDelayMaxUs = 60'000'000;
constexpr std::int64_t kQueueMax = 1 << 20;
constexpr std::int64_t kTimeoutMaxMs = 24 * 3'600'000;

// Names become path components and parts of URLs.
bool is_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kNameBytesMax && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

Result<std::string> name_at(const Json& document, std::string_view key) {
  const std::string name = LOAM_TRY(document.string_at(key));
  if (!is_name(name))
    return fail(ErrorCode::invalid, std::string(key) + ": no name: " + printable(name));
  return name;
}

Result<std::int64_t> bounded_at(const Json& document, std::string_view key, std::int64_t low,
                                std::int64_t high) {
  const std::int64_t value = LOAM_TRY(document.int_at(key));
  if (value < low || value > high)
    return fail(ErrorCode::invalid, std::string(key) + ": " + std::to_string(value) +
                                        " is not in " + std::to_string(low) + ".." +
                                        std::to_string(high));
  return value;
}

Json to_json(const std::optional<ScalePlan>& scale) {
  if (!scale) return Json();
  return Json::object({{"min", scale->min}, {"max", scale->max}, {"wanted", scale->wanted}});
}

Result<std::optional<ScalePlan>> scale_plan_from(const Json& document) {
  if (document.is_null()) return std::nullopt;
  constexpr std::int64_t kMax = kReplicasMax;
  ScalePlan scale;
  scale.min = static_cast<std::uint32_t>(LOAM_TRY(bounded_at(document, "min", 1, kMax)));
  scale.max = static_cast<std::uint32_t>(LOAM_TRY(bounded_at(document, "max", scale.min, kMax)));
  scale.wanted =
      static_cast<std::uint32_t>(LOAM_TRY(bounded_at(document, "wanted", scale.min, scale.max)));
  return scale;
}

Json to_json(const ModelPlan& model) {
  Json replicas = Json::array();
  for (const ReplicaPlan& replica : model.replicas)
    replicas.push(Json::object({{"attempt", replica.attempt}, {"record", replica.record}}));
  return Json::object({{"name", model.name},
                       {"version", model.version},
                       {"batch_max", model.batch_max},
                       {"batch_delay_max_us", model.batch_delay_max_us},
                       {"queue_max", model.queue_max},
                       {"request_timeout_ms", model.request_timeout_ms},
                       {"expected", model.expected},
                       {"scale", to_json(model.scale)},
                       {"replicas", std::move(replicas)}});
}

Result<ModelPlan> model_plan_from(const Json& document) {
  ModelPlan model;
  model.name = LOAM_TRY(name_at(document, "name"));
  model.version = LOAM_TRY(name_at(document, "version"));
  model.batch_max =
      static_cast<std::uint32_t>(LOAM_TRY(bounded_at(document, "batch_max", 1, kBatchMax)));
  model.batch_delay_max_us = LOAM_TRY(bounded_at(document, "batch_delay_max_us", 0, kDelayMaxUs));
  model.queue_max =
      static_cast<std::uint32_t>(LOAM_TRY(bounded_at(document, "queue_max", 1, kQueueMax)));
  model.request_timeout_ms = LOAM_TRY(bounded_at(document, "request_timeout_ms", 1, kTimeoutMaxMs));
  model.expected = document["expected"].as_bool();
  model.scale = LOAM_TRY(scale_plan_from(document["scale"]));
  const auto& replicas = document["replicas"].as_array();
  if (replicas.size() > kReplicasMax) return fail(ErrorCode::too_large, "over 1024 replicas");
  for (const Json& item : replicas) {
    ReplicaPlan replica;
    replica.attempt = LOAM_TRY(name_at(item, "attempt"));
    replica.record = LOAM_TRY(item.string_at("record"));
    model.replicas.push_back(std::move(replica));
  }
  return model;
}

}  // namespace

Json to_json(const EndpointPlan& plan) {
  Json models = Json::array();
  for (const ModelPlan& model : plan.models) models.push(to_json(model));
  return Json::object(
      {{"project", plan.project}, {"listen", plan.listen}, {"models", std::move(models)}});
}

Result<EndpointPlan> endpoint_plan_from(const Json& document) {
  EndpointPlan plan;
  plan.project = LOAM_TRY(document.string_at("project"));
  plan.listen = LOAM_TRY(document.string_at("listen"));
  const auto& models = document["models"].as_array();
  if (models.size() > kModelsMax) return fail(ErrorCode::too_large, "over 256 models");
  for (const Json& item : models) {
    auto model = model_plan_from(item);
    if (!model) return in_context("models", model.error());
    for (const ModelPlan& other : plan.models)
      if (other.name == model->name && other.version == model->version)
        return fail(ErrorCode::invalid,
                    "models: " + model->name + "@" + model->version + " is there twice");
    plan.models.push_back(std::move(*model));
  }
  return plan;
}

}  // namespace loam::api
