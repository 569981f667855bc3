#include "node/data_fingerprints.h"

#include "trace/records.h"

namespace loam::node {
namespace {

const char* kFingerprintNames[] = {"stat", "sample", "full"};

}  // namespace

Result<Json> take_fingerprints(UserHelpers& helpers, const UserIds& reader, store::Store& store,
                               const std::string& folder,
                               const std::vector<spec::DataSource>& data) {
  Json kept_of = Json::object();
  if (data.empty()) return kept_of;
  Json sources{Json::Array{}};
  for (const spec::DataSource& source : data)
    sources.push(Json::object({{"name", source.name},
                               {"pattern", source.files},
                               {"mode", kFingerprintNames[static_cast<int>(source.fingerprint)]}}));
  const std::string text = LOAM_TRY(helpers.call(reader, {"__fingerprint", folder},
                                                 Json::object({{"sources", sources}}).dump()));
  const Json taken = LOAM_TRY(Json::parse(text));
  for (const spec::DataSource& source : data) {
    const Json& fingerprint = taken[source.name];
    const Digest record = LOAM_TRY(store.put_record(trace::data_record(source.name, fingerprint)));
    Json kept = Json::object({{"digest", fingerprint["digest"]}, {"record", record.hex()}});
    if (spec::pattern_folder(source.files).empty()) {
      const auto& files = fingerprint["files"].as_array();
      if (files.size() > spec::kTopDataFilesMax)
        return fail(ErrorCode::too_large,
                    "data." + source.name + ": " + std::to_string(files.size()) +
                        " files from the project's top folder on; at most " + std::to_string(spec::kTopDataFilesMax) +
                        ": move them into a folder and write 'FOLDER/**'");
      Json paths{Json::Array{}};
      for (const Json& file : files) paths.push(file["path"]);
      kept.set("files", std::move(paths));
    }
    kept_of.set(source.name, std::move(kept));
  }
  return kept_of;
}

}  // namespace loam::node
