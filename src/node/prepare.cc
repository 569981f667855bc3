// From an acknowledged run to jobs that may be queued: fingerprints and lock (read with the user's
// rights), environments, the lock written back.
//
//   worker: __fingerprint, __read loam.lock ─▶ Envs (each distinct env once) ─▶ worker:
//   __write-lock ─▶ prepared
//
// Nothing of it is kept before the end: a node that dies meanwhile prepares the run again.
#include <algorithm>

#include "base/text.h"
#include "node/data_fingerprints.h"
#include "node/runs_impl.h"
#include "node/services.h"

namespace loam::node {

struct Preparation {
  struct Wanted {
    spec::Env env;
    std::string name;  // for people: the project's name, or the step's with an env of its own
    std::optional<EnvOutcome> outcome;
  };
  RunRow run;
  ProjectPtr project;
  std::string proxy_name;
  Json proxy;
  Json values;  // secrets
  Json data = Json::object();
  std::string lock_text;
  env::LockFile lock;
  Result<void> gathered;
  std::vector<Wanted> wanted;
  std::vector<Envs::Ticket> tickets;
  std::size_t open = 0;                    // environments that are not ready
  std::shared_ptr<store::Store::Pin> pin;  // of the data records
  bool over = false;                       // failed, cancelled or done
  // `loam lock`: no run, only the lock.
  ResponderPtr stream;
  bool update = false;
};

namespace {

Result<void> read_lock(UserHelpers& helpers, const UserIds& reader, Preparation& preparation) {
  auto text = helpers.call(reader, {"__read", preparation.run.folder, "loam.lock"});
  if (!text && text.error().code == ErrorCode::not_found) return {};
  if (!text) return in_context("loam.lock", text.error());
  preparation.lock_text = std::move(*text);
  auto lock = env::parse_lock(preparation.lock_text);
  if (!lock)
    return fail(ErrorCode::invalid, "loam.lock: " + lock.error().text +
                                        "; restore it, or make a new one: loam lock --update");
  preparation.lock = std::move(*lock);
  return {};
}

void want(Preparation& preparation, const spec::Env& env, const std::string& name) {
  for (const Preparation::Wanted& known : preparation.wanted)
    if (known.env == env) return;
  const bool projects_own = preparation.project && env == preparation.project->env;
  preparation.wanted.push_back(
      {env, projects_own ? preparation.project->name : name, std::nullopt});
}

// The env of a command: the project's own, "host", or that of a step or service by its name.
Result<spec::Env> command_env(const Preparation& preparation) {
  const std::string& name = preparation.run.options["command"]["env"].as_string();
  if (name == "host" || !preparation.project) {
    if (!name.empty() && name != "host")
      return fail(ErrorCode::invalid, "--env " + printable(name) +
                                          ": there is no loam.yaml here that names environments");
    return spec::Env{};
  }
  if (name.empty() || name == preparation.project->name) return preparation.project->env;
  std::vector<std::string> names{"host"};
  for (const spec::Step& step : preparation.project->steps) {
    if (step.name == name) return step.env;
    names.push_back(step.name);
  }
  for (const spec::Service& service : preparation.project->services) {
    if (service.name == name) return service.env;
    names.push_back(service.name);
  }
  return fail(ErrorCode::invalid,
              "--env " + printable(name) + ": expected one of " + join(names, ", "));
}

Json progress_json(const std::string& name, const env::Progress& progress) {
  return Json::object({{"env", name},
                       {"phase", printable(progress.phase)},
                       {"done", progress.done},
                       {"total", progress.total},
                       {"text", printable(progress.text)}});
}

}  // namespace

Result<Inspected> inspect(UserHelpers& helpers, store::Store& store, const RunRow& run,
                          const ProjectPtr& project) {
  Preparation preparation;
  preparation.run = run;
  preparation.project = project;
  preparation.data =
      LOAM_TRY(take_fingerprints(helpers, reader_of(run), store, run.folder, project->data));
  LOAM_CHECK(read_lock(helpers, reader_of(run), preparation));
  return Inspected{std::move(preparation.data), std::move(preparation.lock)};
}

void Runs::Impl::prepare(RunId id) {
  auto run = tables.run(id);
  if (!run || run->state != "preparing" || preparations.contains(id)) return;
  auto preparation = std::make_shared<Preparation>();
  preparations[id] = preparation;
  preparation->run = *run;
  preparation->pin = node.store.pin();
  preparation->project = project_of(*run);
  const Json kept = secrets.of_run(id);
  preparation->proxy = kept["proxy"];
  preparation->values = kept["secrets"].is_object() ? kept["secrets"] : Json::object();
  if (!run->text.empty() && !preparation->project)
    return preparation_failed(preparation, run->file + ": can no longer be read; submit it again");
  if (!preparation->project) return prepare_envs(preparation);
  node.loop.offload_for(
      run->reader_uid,
      [this, preparation] {
        const UserIds reader = reader_of(preparation->run);
        auto taken = take_fingerprints(node.helpers, reader, node.store, preparation->run.folder,
                                       preparation->project->data);
        if (!taken) {
          preparation->gathered = tl::unexpected(taken.error());
          return;
        }
        preparation->data = std::move(*taken);
        code.look_at({preparation->run.snapshot, preparation->run.file}, *preparation->project);
        preparation->gathered = read_lock(node.helpers, reader, *preparation);
      },
      [this, preparation] {
        if (preparation->over) return;
        if (!preparation->gathered)
          return preparation_failed(preparation, preparation->gathered.error().text);
        prepare_envs(preparation);
      });
}

void Runs::Impl::prepare_envs(const std::shared_ptr<Preparation>& preparation) {
  const RunRow& run = preparation->run;
  if (run.verb == "run") {
    auto env = command_env(*preparation);
    if (!env) return preparation_failed(preparation, env.error().text);
    want(*preparation, *env, "command");
  }
  if (preparation->project && (run.verb == "up" || run.verb == "train" || run.verb == "lock"))
    for (const spec::Step& step : preparation->project->steps)
      want(*preparation, step.env, step.name);
  if (preparation->project && (run.verb == "up" || run.verb == "serve" || run.verb == "lock"))
    for (const spec::Service& service : preparation->project->services)
      want(*preparation, service.env, service.name);
  if (preparation->project && run.verb == "lock")  // what `loam run` uses, also where no step does
    want(*preparation, preparation->project->env, preparation->project->name);
  preparation->open = preparation->wanted.size();
  for (std::size_t i = 0; i < preparation->wanted.size() && !preparation->over; ++i) {
    Preparation::Wanted& wanted = preparation->wanted[i];
    if (run.verb == "run" &&
        plain_host(wanted.env)) {  // nothing to resolve: no detour over a worker
      env_done(preparation, i, envs.host());
      continue;
    }
    EnvRequest request{
        .env = wanted.env, .section = std::nullopt, .home = run.home, .proxy_environment = {}};
    for (const auto& [name, value] : preparation->proxy.as_object())
      if (value.is_string()) request.proxy_environment.emplace_back(name, value.as_string());
    if (const auto* section = env::find_section(preparation->lock, wanted.env);
        section != nullptr && !preparation->update && env::answers(*section, wanted.env))
      request.section = *section;
    const auto tell = [this, preparation](const std::string& kind, const Json& data) {
      if (preparation->stream) return preparation->stream->write(sse_text(kind, data));
      events.add(preparation->run.id, kind, data);
    };
    Envs::Listener listener;
    listener.waiting = [tell, name = wanted.name] {
      tell("env", Json::object({{"env", name}, {"state", "waiting"}}));
    };
    listener.progress = [this, preparation, name = wanted.name](const env::Progress& progress) {
      const Json data = progress_json(name, progress);
      if (preparation->stream) return preparation->stream->write(sse_text("env", data));
      events.progress(preparation->run.id, name + "/" + progress.phase, data);
    };
    listener.done = [this, preparation, i](const Result<EnvOutcome>& outcome) {
      env_done(preparation, i, outcome);
    };
    preparation->tickets.push_back(envs.prepare(request, std::move(listener)));
  }
  if (preparation->wanted.empty() && !preparation->over) write_lock(preparation);
}

void Runs::Impl::env_done(const std::shared_ptr<Preparation>& preparation, std::size_t index,
                          const Result<EnvOutcome>& outcome) {
  if (preparation->over) return;
  Preparation::Wanted& wanted = preparation->wanted[index];
  Json data = Json::object({{"env", wanted.name}});
  if (!outcome) {
    data.set("state", "failed");
    data.set("error", printable(outcome.error().text));
  } else {
    data.set("state", "ready");
    data.set("digest", outcome->digest);
    data.set("built", outcome->built);
  }
  if (preparation->stream) {
    preparation->stream->write(sse_text("env", data));
  } else if (!plain_host(wanted.env) || preparation->run.verb != "run") {
    events.add(preparation->run.id, "env", data);
  }
  if (!outcome)
    return preparation_failed(preparation, "env '" + wanted.name + "': " + outcome.error().text);
  wanted.outcome = *outcome;
  if (--preparation->open == 0) write_lock(preparation);
}

// As the user, and only where it says something new.
void Runs::Impl::write_lock(const std::shared_ptr<Preparation>& preparation) {
  const bool has_file = preparation->project != nullptr;
  const bool command_on_host = preparation->run.verb == "run" && preparation->wanted.size() == 1 &&
                               plain_host(preparation->wanted[0].env);
  for (const Preparation::Wanted& wanted : preparation->wanted) {
    const auto* section = env::find_section(preparation->lock, wanted.env);
    if (section == nullptr || *section != wanted.outcome->section)
      env::put_section(preparation->lock, wanted.outcome->section);
  }
  const std::string text = env::format_lock(preparation->lock);
  if (!has_file || command_on_host || text == preparation->lock_text || preparation->wanted.empty())
    return prepared(preparation);
  auto written = std::make_shared<Result<std::string>>(std::string());
  node.loop.offload_for(
      preparation->run.reader_uid,
      [this, preparation, text, written] {
        *written = node.helpers.call(reader_of(preparation->run),
                                {"__write-lock", preparation->run.folder}, text);
      },
      [this, preparation, written] {
        if (preparation->over) return;
        const std::string path = preparation->run.folder + "/loam.lock";
        const Json data =
            Json::object({{"written", written->has_value()}, {"path", printable(path)}});
        if (preparation->stream && !*written)
          return preparation_failed(preparation, written->error().text);
        if (preparation->stream) preparation->stream->write(sse_text("lock", data));
        if (!preparation->stream && *written) events.add(preparation->run.id, "lock", data);
        if (!*written)
          note(preparation->run.id, "loam.lock could not be written (" + written->error().text +
                                        "): the next run resolves its environment again");
        prepared(preparation);
      });
}

void Runs::Impl::prepared(const std::shared_ptr<Preparation>& preparation) {
  preparation->over = true;
  preparation->tickets.clear();
  if (preparation->stream) {
    preparation->stream->write(sse_text("done", Json::object({{"ok", true}})));
    return preparation->stream->end_stream();
  }
  preparations.erase(preparation->run.id);
  auto run = tables.run(preparation->run.id);
  if (!run || run->state != "preparing") return;
  release_pin(std::move(preparation->pin));
  run->data = preparation->data;
  for (const auto& [name, kept] : preparation->data.as_object())
    tables.remember_record(run->id, kept["record"].as_string());
  for (JobRow job : tables.jobs_of(run->id)) {
    if (job.state != "preparing") continue;
    const spec::Step* step = job.kind == "step" ? step_of(*run, job) : nullptr;
    const spec::Service* service = job.kind == "replica" ? service_of(*run, job) : nullptr;
    for (const Preparation::Wanted& wanted : preparation->wanted)
      if ((step != nullptr && step->env == wanted.env) ||
          (service != nullptr && service->env == wanted.env) || job.kind == "command")
        job.env = wanted.outcome->digest;
    job.state = "blocked";
    if (auto kept = secrets.keep_for_job(job.id, preparation->values); !kept)
      return preparation_failed(preparation, "secrets: " + kept.error().text);
    tables.save(job);
  }
  for (const sandbox::Guard& guard : node.guards)
    if (!guard.present)
      note(run->id, "this host lacks the guard '" + guard.name + "' (" + guard.finding +
                        "); see: loam doctor");
  events.forget_progress(run->id);
  set_run_state(*run, "running");
  node.db.after_commit([this, id = run->id] { secrets.forget_run(id); });
  services->look_at_port(*run);
  consider(run->id);
}

void Runs::Impl::preparation_failed(const std::shared_ptr<Preparation>& preparation,
                                    const std::string& error) {
  preparation->over = true;
  preparation->tickets.clear();
  if (preparation->stream) {
    preparation->stream->write(sse_text("error", Json::object({{"text", printable(error)}})));
    return preparation->stream->end_stream();
  }
  preparations.erase(preparation->run.id);
  auto run = tables.run(preparation->run.id);
  if (!run || run->state != "preparing") return;
  for (JobRow job : tables.jobs_of(run->id))
    if (!job.ended()) end_job(job, "skipped", "the run could not be prepared");
  node.db.after_commit([this, id = run->id] { secrets.forget_run(id); });
  set_run_state(*run, "failed", printable(error));
}

void Runs::Impl::drop_preparation(RunId run) {
  const auto found = preparations.find(run);
  if (found == preparations.end()) return;
  found->second->over = true;
  found->second->tickets.clear();
  preparations.erase(found);
  node.db.after_commit([this, run] { secrets.forget_run(run); });
}

// POST /v1/lock: the environments of a project, resolved (again with update) and built, and the
// lock written.
void Runs::Impl::lock_only(const Request& request, ResponderPtr responder) {
  auto preparation = std::make_shared<Preparation>();
  RunRow& run = preparation->run;
  run.verb = "lock";
  run.folder = request.body["project"].as_string();
  run.text = request.body["text"].as_string();
  if (!run.folder.starts_with('/'))
    return responder->reply_error({ErrorCode::invalid, "project: expected an absolute path"});
  if (auto filled = fill_identity(request.caller, run); !filled)
    return responder->reply_error(filled.error());
  preparation->update = request.body["update"].as_bool();
  preparation->proxy = request.body["proxy_environment"];
  // A requirements file is read with the user's rights, by the same child that reads the lock.
  auto read = std::make_shared<spec::ReadResult>();
  auto first = spec::read_project(run.text, nullptr);
  if (!first.project)
    return responder->reply_error(
        {ErrorCode::invalid, spec::format_problems("loam.yaml", first.problems)});
  class UserFolder : public spec::Folder {
   public:
    UserFolder(UserHelpers& helpers, const RunRow& run) : helpers_(helpers), run_(run) {}
    bool has_file(const std::string&) const override { return true; }
    std::size_t matches(const std::string&, std::size_t) const override { return 1; }
    Result<std::string> read(const std::string& relative) const override {
      return helpers_.call(reader_of(run_), {"__read", run_.folder, relative});
    }

   private:
    UserHelpers& helpers_;
    const RunRow& run_;
  };
  node.loop.offload_for(
      run.reader_uid,
      [this, preparation, read] {
        const UserFolder folder(node.helpers, preparation->run);
        *read = spec::read_project(preparation->run.text, &folder);
        preparation->gathered = read_lock(node.helpers, reader_of(preparation->run), *preparation);
        // A lock that cannot be read is what --update mends.
        if (!preparation->gathered && preparation->update) preparation->gathered = Result<void>();
      },
      [this, preparation, read, responder] {
        if (!read->project)
          return responder->reply_error(
              {ErrorCode::invalid, spec::format_problems("loam.yaml", read->problems)});
        if (!preparation->gathered) return responder->reply_error(preparation->gathered.error());
        preparation->project = std::make_shared<const spec::Project>(std::move(*read->project));
        preparation->stream = responder;
        responder->start_stream("text/event-stream");
        responder->on_closed([preparation] {  // nobody waits any more: the builds are left
          preparation->over = true;
          preparation->tickets.clear();
        });
        prepare_envs(preparation);
      });
}

}  // namespace loam::node
