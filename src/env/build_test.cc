// Real builds: with a mirror, as root (or a range of one's own), some minutes. Only with
// LOAM_SLOW_TESTS=1; the ordinary road is covered through the program in tests/system.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>

#include "base/fd.h"
#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "env/env.h"

namespace loam::env {
namespace {

constexpr std::uint32_t kFirstBuildId = 2'000'000'000;

class Build : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* wanted = std::getenv("LOAM_SLOW_TESTS");
        wanted == nullptr || std::string(wanted) != "1")
      GTEST_SKIP() << "LOAM_SLOW_TESTS=1 runs it";
    std::string path = "/tmp/loam-env-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    folder_ = path;
    ASSERT_EQ(::chmod(path.c_str(), 0711), 0);
    store_ = std::move(*store::Store::open(folder_ + "/store"));
  }

  void TearDown() override {
    store_.reset();
    if (folder_.empty()) return;
    EXPECT_TRUE(remove_tree(folder_));
  }

  Context context(const std::string& builds) {
    Context context;
    context.store = store_.get();
    context.work_folder = folder_ + "/" + builds;
    context.build_uids = context.build_gids = {kFirstBuildId, 65536};
    context.shared_folder = LOAM_SOURCE_DIR;
    context.progress = [this](const Progress& progress) { phases_.insert(progress.phase); };
    for (const char* name : {"http_proxy", "https_proxy", "PIP_CERT", "SSL_CERT_FILE",
                             "PIP_INDEX_URL", "PIP_FIND_LINKS"})
      if (const char* value = std::getenv(name))
        context.proxy_environment.emplace_back(name, value);
    return context;
  }

  std::string folder_;
  std::unique_ptr<store::Store> store_;
  std::set<std::string> phases_;
};

spec::Env env_of(const std::string& base, std::vector<std::string> apt,
                 std::vector<std::string> pip) {
  spec::Env env;
  env.base = base;
  env.apt = std::move(apt);
  env.pip = std::move(pip);
  return env;
}

std::set<std::string> paths_of(const store::Store& store, const Digest& tree) {
  std::set<std::string> paths;
  const auto entries = store.listing(tree);
  if (entries)
    for (const auto& entry : *entries) paths.insert(entry.path);
  return paths;
}

// Where two trees differ: the file to look at when this test fails.
std::string difference(const store::Store& store, const Digest& a, const Digest& b) {
  std::map<std::string, Digest> objects;
  const auto first = store.listing(a), second = store.listing(b);
  if (!first || !second) return "";
  for (const auto& entry : *first) objects[entry.path] = entry.object;
  std::string text;
  for (const auto& entry : *second) {
    if (!objects.contains(entry.path) || objects[entry.path] != entry.object)
      text += entry.path + "\n";
    objects.erase(entry.path);
  }
  for (const auto& [path, object] : objects) text += path + " (only in the first)\n";
  return text;
}

TEST_F(Build, SameLockSameTreeInTwoTimeZones) {
  auto section = resolve(context("one"), env_of("debian:bookworm", {"python3-minimal"}, {}));
  ASSERT_TRUE(section) << section.error().text;
  ::setenv("TZ", "Pacific/Kiritimati", 1);
  const auto first = build(context("one"), *section);
  ASSERT_TRUE(first) << first.error().text;
  ASSERT_TRUE(first->tree);
  EXPECT_TRUE(phases_.contains("apt: downloading"));
  EXPECT_TRUE(phases_.contains("building"));
  // Another folder has no tar of the first build to start from.
  ::setenv("TZ", "America/Adak", 1);
  Json again = *section;
  again.set("tree", nullptr);
  const auto second = build(context("another"), again);
  ::unsetenv("TZ");
  ASSERT_TRUE(second) << second.error().text;
  EXPECT_EQ(*first->tree, *second->tree) << difference(*store_, *first->tree, *second->tree);
  EXPECT_EQ(first->digest, second->digest);
  const auto paths = paths_of(*store_, *first->tree);
  EXPECT_TRUE(paths.contains("usr/bin/python3"));
  EXPECT_FALSE(paths.contains("etc/apt/apt.conf.d/99mmdebstrap"));
  // Nothing is left of either build but the base tar.
  for (const char* builds : {"/one", "/another"}) {
    const auto names = *list_folder(folder_ + builds);
    for (const std::string& name : names) EXPECT_TRUE(name.starts_with("base-")) << name;
  }
}

TEST_F(Build, WheelsOnDebian) {
  auto section = resolve(context("one"),
                         env_of("debian:bookworm", {"python3"}, {"tqdm==4.66.4", "PyYAML==6.0.1"}));
  ASSERT_TRUE(section) << section.error().text;
  EXPECT_EQ((*section)["wheels"].size(), 2u);
  EXPECT_EQ((*section)["python"].as_string(), "3.11");
  const auto first = build(context("one"), *section);
  ASSERT_TRUE(first) << first.error().text;
  const auto paths = paths_of(*store_, *first->tree);
  EXPECT_TRUE(paths.contains("usr/local/lib/python3.11/dist-packages/tqdm/__init__.py"));
  EXPECT_TRUE(paths.contains(
      "usr/local/lib/python3.11/dist-packages/tqdm/__pycache__/__init__.cpython-311.pyc"));
  EXPECT_TRUE(paths.contains("usr/local/bin/tqdm"));
  Json again = *section;
  again.set("tree", nullptr);
  const auto second = build(context("another"), again);
  ASSERT_TRUE(second) << second.error().text;
  EXPECT_EQ(*first->tree, *second->tree) << difference(*store_, *first->tree, *second->tree);
}

TEST_F(Build, WheelsOnTheHost) {
  auto section = resolve(context("one"), env_of("host", {}, {"tqdm==4.66.4"}));
  ASSERT_TRUE(section) << section.error().text;
  const auto built = build(context("one"), *section);
  ASSERT_TRUE(built) << built.error().text;
  const auto paths = paths_of(*store_, *built->tree);
  EXPECT_TRUE(paths.contains("lib/tqdm/__init__.py"));
  EXPECT_TRUE(paths.contains("bin/tqdm"));
}

TEST_F(Build, FetchesAgainWhatTheStoreLost) {
  auto section = resolve(context("one"), env_of("host", {}, {"tqdm==4.66.4"}));
  ASSERT_TRUE(section) << section.error().text;
  const Digest wheel = *Digest::parse((*section)["wheels"].as_array()[0]["sha256"].as_string());
  ASSERT_EQ(::unlink(store_->blob_path(wheel).c_str()), 0);
  EXPECT_TRUE(build(context("one"), *section));
  EXPECT_TRUE(store_->has_blob(wheel));
}

TEST_F(Build, SaysWhatIsWrongWithThePackages) {
  const auto text = [&](const spec::Env& env) {
    const auto section = resolve(context("one"), env);
    return section ? std::string("it resolved") : section.error().text;
  };
  EXPECT_EQ(text(env_of("debian:bookworm", {"python3-nmupy"}, {})),
            "apt: python3-nmupy: no such package in debian:bookworm (did you mean python3-numpy?)");
  EXPECT_EQ(text(env_of("debian:bokworm", {}, {})),
            "apt: debian:bokworm: the configured mirror has no such suite (did you mean "
            "debian:bookworm?)");
  EXPECT_NE(text(env_of("debian:bookworm", {}, {"tqdm"})).find("add python3 to apt:"),
            std::string::npos);
  EXPECT_NE(
      text(env_of("host", {}, {"docopt==0.6.2"})).find("docopt==0.6.2: has no wheel for Python 3."),
      std::string::npos);
  EXPECT_NE(text(env_of("host", {}, {"tqdm==999"})).find("tqdm==999: no such version with a wheel"),
            std::string::npos);
  EXPECT_NE(text(env_of("host", {}, {"loam-no-such-package-1"}))
                .find("no such package on the configured index"),
            std::string::npos);
}

// An index that wants a name and a password and has a certificate of a CA that only this user
// trusts.
TEST_F(Build, PrivateIndexFromTheUsersOwnFiles) {
  const std::string home = folder_ + "/home";
  ASSERT_TRUE(make_folders(home + "/.config/pip"));
  Pipe pipe = *make_pipe();
  const auto server =
      spawn({.argv = {"/usr/bin/python3", LOAM_SOURCE_DIR "/src/env/test_index.py", home},
             .standard_output = pipe.write_end.get()});
  ASSERT_TRUE(server);
  pipe.write_end.reset();
  std::array<char, 16> port{};
  ASSERT_GT(::read(pipe.read_end.get(), port.data(), port.size() - 1), 0);
  const std::string address = "https://127.0.0.1:" + std::string(trim(port.data())) + "/simple";
  const auto write = [&](const std::string& name, const std::string& text) {
    ASSERT_TRUE(write_file_atomic(home + name, text));
  };
  write("/.config/pip/pip.conf",
        "[global]\nindex-url = " + address + "\ncert = " + home + "/ca.crt\n");
  auto asking = context("one");
  asking.proxy_environment.clear();
  asking.home = home;
  const auto refused = resolve(asking, env_of("host", {}, {"loam-probe"}));
  EXPECT_FALSE(refused);
  write("/.netrc", "machine 127.0.0.1 login ana password s3cret\n");
  auto section = resolve(asking, env_of("host", {}, {"loam-probe"}));
  ASSERT_TRUE(section) << section.error().text;
  EXPECT_EQ((*section)["wheels"].as_array()[0]["version"].as_string(), "1.0");
  EXPECT_EQ(section->dump().find("s3cret"), std::string::npos);
  EXPECT_EQ(section->dump().find("127.0.0.1"), std::string::npos);
  const auto built = build(asking, *section);
  ASSERT_TRUE(built) << built.error().text;
  const auto paths = paths_of(*store_, *built->tree);
  EXPECT_TRUE(paths.contains("bin/loam-probe"));
  for (const std::string& path : paths) EXPECT_EQ(path.find("netrc"), std::string::npos) << path;
  const auto left = *list_folder(folder_ + "/one");
  EXPECT_TRUE(left.empty());
}

TEST_F(Build, CancelLeavesNothing) {
  auto stopping = context("one");
  int polls = 0;
  stopping.cancelled = [&] { return phases_.contains("building") && ++polls > 10; };
  auto section = resolve(context("one"), env_of("debian:bookworm", {}, {}));
  ASSERT_TRUE(section) << section.error().text;
  const auto built = build(stopping, *section);
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error().code, ErrorCode::cancelled);
  EXPECT_EQ(*list_folder(folder_ + "/one"), std::vector<std::string>());
}

}  // namespace
}  // namespace loam::env
