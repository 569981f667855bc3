// GET /v1/trace/X: from a request, a model, a run or a job to the records below it, top-down.
#include "base/clock.h"
#include "base/text.h"
#include "node/runs_impl.h"
#include "node/services.h"
#include "trace/records.h"
#include "trace/request_log.h"

namespace loam::node {
namespace {

struct Trace {
  std::string of;
  std::string top;                // record's digest
  std::vector<std::string> logs;  // where a request may be
  std::optional<trace::RequestId> id;
  Json request;
  Result<Json> layers = Json();
};

Json request_json(const trace::RequestEntry& entry) {
  return Json::object({{"id", entry.id.text()},
                       {"time_ms", entry.id.time_ms()},
                       {"status", std::int64_t{entry.status}},
                       {"rows", entry.rows},
                       {"batch_rows", entry.batch_rows},
                       {"queue_us", entry.queue_us},
                       {"compute_us", entry.compute_us}});
}

Result<void> find_in_logs(Trace& wanted) {
  for (const std::string& folder : wanted.logs) {
    const auto found = trace::find_request(folder, *wanted.id);
    if (!found || !*found) continue;
    wanted.request = request_json(**found);
    if ((*found)->replica != Digest{}) wanted.top = (*found)->replica.hex();
    return {};
  }
  return fail(ErrorCode::not_found, "no request " + wanted.of + " in the logs of your endpoints");
}

// On a worker.
Result<Json> follow(const store::Store& store, Trace& wanted) {
  Json layers{Json::Array{}};
  if (wanted.id) {
    LOAM_CHECK(find_in_logs(wanted));
    layers.push(Json::object({{"kind", "request"}, {"digest", ""}, {"record", wanted.request}}));
  }
  if (wanted.top.empty()) return layers;  // a request that no replica answered
  const Digest top = LOAM_TRY(Digest::parse(wanted.top));
  for (const trace::Layer& layer : LOAM_TRY(trace::follow(store, top)))
    layers.push(
        Json::object({{"kind", layer.kind}, {"digest", layer.digest}, {"record", layer.record}}));
  return layers;
}

}  // namespace

void Runs::Impl::trace_routes(Routes& routes) {
  routes.add(
      "GET", "/v1/trace/*of",
      [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
        auto wanted = std::make_shared<Trace>();
        wanted->of = params.at("of");
        const bool is_number = !wanted->of.empty() && wanted->of[0] >= '0' && wanted->of[0] <= '9';
        if (wanted->of.starts_with("req-")) {
          const auto id = trace::RequestId::parse(wanted->of);
          if (!id) return responder->reply_error(id.error());
          wanted->id = *id;
          wanted->logs = services->request_logs(request.caller);
        } else if (auto target = is_number ? find_target(request.caller, wanted->of)
                                           : fail(ErrorCode::not_found, "")) {
          std::optional<JobRow> job = target->job;
          // A run as a whole is what it serves, else its last step with a record.
          if (wanted->of.find('/') == std::string::npos)
            for (const JobRow& other : tables.jobs_of(target->run.id))
              if (!other.record.empty() && (!job || job->record.empty() || job->state != "failed"))
                job = other;
          if (!job || job->record.empty())
            return responder->reply_error(
                {ErrorCode::unavailable,
                 printable(wanted->of) +
                     " has no record yet; it is written when an attempt has ended"});
          wanted->top = job->record;
        } else {
          const auto name = parse_model_name(wanted->of);
          if (is_number && (!name || !models.find(request.caller.uid, *name)))
            return responder->reply_error(target.error());
          if (!name) return responder->reply_error(name.error());
          const auto version = models.find(request.caller.uid, *name);
          if (!version)
            return responder->reply_error(
                {ErrorCode::not_found, "no model, run or request '" + printable(wanted->of) + "'"});
          wanted->top = version->record;
        }
        node.loop.offload([this, wanted] { wanted->layers = follow(node.store, *wanted); },
                          [wanted, responder] {
                            if (!wanted->layers)
                              return responder->reply_error(wanted->layers.error());
                            Json reply = Json::object({{"of", printable(wanted->of)},
                                                       {"layers", std::move(*wanted->layers)}});
                            if (!wanted->request.is_null()) reply.set("request", wanted->request);
                            responder->reply(200, reply);
                          });
      });
}

}  // namespace loam::node
