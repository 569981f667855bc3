#include "boxes/manifest.h"

#include <gtest/gtest.h>

#include "base/files.h"
#include "boxes/address.h"
#include "boxes/hello.h"
#include "boxes/kept_projects.h"

namespace loam::boxes {
namespace {

using Words = std::vector<std::string>;

Json folder(const std::string& path) {
  return Json::object({{"type", "folder"}, {"path", path}, {"mode", 0755}});
}
Json file(const std::string& path) {
  return Json::object(
      {{"type", "file"}, {"path", path}, {"mode", 0644}, {"size", 1}, {"mtime_ns", "5"}});
}
Json symlink(const std::string& path, const std::string& target) {
  return Json::object({{"type", "symlink"}, {"path", path}, {"target", target}});
}

TEST(Manifest, ReadsWhatItWrites) {
  const Json entries = Json::array({folder(""), folder("a"), file("a/b"), symlink("z", "../out")});
  const auto read = read_manifest(entries);
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(to_json(*read), entries);
}

TEST(Manifest, RefusesPathsThatLeadOutOrAreOddlyNamed) {
  for (const Json& entries :
       {Json::array({}), Json::array({file("a")}), Json::array({folder(""), file("../a")}),
        Json::array({folder(""), file("/etc/passwd")}), Json::array({folder(""), file("a/./b")}),
        Json::array({folder(""), file("a/b")}),
        Json::array({folder(""), symlink("a", "/etc"), file("a/b")}),
        Json::array({folder(""), file("a"), file("a/b")}),
        Json::array({folder(""), file("a"), file("a")}),
        Json::array({folder(""), file("b"), file("a")}),
        Json::array({folder(""), symlink("a", "")}),
        Json::array({folder(""), file(std::string("a\0b", 3))}),
        Json::array({folder(""), folder("")}),
        Json::array({folder(""), Json::object({{"type", "device"}, {"path", "a"}})}),
        Json::array({folder(""), Json::object({{"type", "file"},
                                               {"path", "a"},
                                               {"mode", 04755},
                                               {"size", 1},
                                               {"mtime_ns", "0"}})}),
        Json::array({folder(""), Json::object({{"type", "file"},
                                               {"path", "a"},
                                               {"mode", 0644},
                                               {"size", -1},
                                               {"mtime_ns", "0"}})})})
    EXPECT_FALSE(read_manifest(entries)) << entries.dump();
}

TEST(Manifest, HoldsTheProjectAndItsDataAlone) {
  char pattern[] = "/tmp/loam-manifest-XXXXXX";
  const std::string top = ::mkdtemp(pattern);
  for (const char* folder : {"/data", "/out"}) ASSERT_TRUE(make_folders(top + folder));
  for (const char* name : {"/train.py", "/data/a.csv", "/data/b.txt", "/secret", "/out/step-1"})
    ASSERT_TRUE(write_file_atomic(top + name, "x"));
  ASSERT_TRUE(write_file_atomic(top + "/.loamignore", "/data/\n/secret\n"));
  const auto manifest = manifest_of(top, {.data = {"data/*.csv"}, .skip = {"out"}});
  ASSERT_TRUE(manifest) << manifest.error().text;
  Words paths;
  for (const ManifestEntry& entry : *manifest) {
    paths.push_back(entry.path);
    EXPECT_EQ(entry.digest.empty(),
              entry.type != ManifestEntry::Type::file || entry.path == "data/a.csv");
  }
  EXPECT_EQ(paths, (Words{"", ".loamignore", "data", "data/a.csv", "train.py"}));
  EXPECT_TRUE(read_manifest(to_json(*manifest)));
  ASSERT_TRUE(remove_tree(top));
}

TEST(KeptProject, TakesKeysAndNamesThatAreNothingElse) {
  const std::string key(32, 'a');
  const auto kept = kept_project("/c/loam", key, "digits");
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->folder, "/c/loam/projects/" + key + "/digits");
  for (const char* name : {"", ".", "..", "a/b"})
    EXPECT_FALSE(kept_project("/c", key, name)) << name;
  for (const std::string& wrong :
       {std::string("../../x"), std::string(31, 'a'), std::string(32, 'g')})
    EXPECT_FALSE(kept_project("/c", wrong, "digits")) << wrong;
}

TEST(Address, IsNeverAnOptionNorAShellsWord) {
  for (const char* right : {"gpu1", "anna@gpu1.lab", "10.0.0.7", "fe80::1", "a_b-c"})
    EXPECT_EQ(destination_problem(right), "");
  for (const char* wrong : {"", "-v", "-oProxyCommand=x", "anna@-v", "@gpu1", "a b", "a;b", "a`b`",
                            "$(a)", "a/b", "a@b@c", "a\n"})
    EXPECT_NE(destination_problem(wrong), "") << wrong;
  EXPECT_EQ(program_problem("/opt/loam-0.1/bin/loam"), "");
  for (const char* wrong : {"", "-x", "loam; rm", "loam x", "$HOME/loam"})
    EXPECT_NE(program_problem(wrong), "") << wrong;
  const Words command = ssh_command({.name = "n", .destination = "gpu1"}, {.batch = true});
  EXPECT_EQ(Words(command.end() - 3, command.end()), (Words{"--", "gpu1", "loam __bridge"}));
}

TEST(Hello, IsFoundBehindWhatAShellSays) {
  HelloReader reader;
  EXPECT_FALSE(*reader.add("motd\nnot loam-bridge 1 {}\nloam-br"));
  const auto hello = reader.add("idge 1 {\"version\":\"0.1.0\"}\nrest");
  ASSERT_TRUE(hello && *hello);
  EXPECT_EQ((**hello)["version"].as_string(), "0.1.0");
  EXPECT_EQ(reader.rest, "rest");
  EXPECT_FALSE(HelloReader().add("loam-bridge 2 {}\n"));
  EXPECT_FALSE(HelloReader().add("loam-bridge 1 {\n"));
  EXPECT_EQ(HelloReader().add("loam-bridge 1 {\"error\":\"full\"}\n").error().text, "full");
  EXPECT_FALSE(HelloReader().add(std::string(kHelloBytesMax + 1, 'x')));
  EXPECT_TRUE(check_version(**hello, "0.1.9"));
  EXPECT_FALSE(check_version(**hello, "0.2.0"));
  EXPECT_FALSE(check_version(Json::object(), "0.2.0"));
}

}  // namespace
}  // namespace loam::boxes
