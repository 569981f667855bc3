// What a job sees of files, and what it cannot reach through them.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

class FilesTest : public SandboxTest {
 protected:
  // An environment's tree: the host's programs bound in, everything else the tree's own.
  Spec tree_spec(const std::string& script) {
    Spec spec = shell_spec(script);
    const std::string tree = make_folder("tree", 0);
    for (const char* name : {"tree/usr", "tree/etc", "tree/project", "tree/opt"})
      make_folder(name, 0);
    for (const char* name : {"bin", "lib", "lib64"})
      (void)!::symlink((std::string("usr/") + name).c_str(), (tree + "/" + name).c_str());
    write("tree/etc/mark", "tree");
    spec.root_tree = tree;
    spec.binds = {{.from = "/usr", .to = "/usr"}};
    return spec;
  }
  std::uint32_t owner_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::lstat((folder_ + "/" + path).c_str(), &status), 0) << path;
    return status.st_uid;
  }
};

TEST_F(FilesTest, TreeIsTheRootAndChangesVanish) {
  Spec spec = tree_spec(
      "cat /etc/mark; echo ' new' > /made && cat /made; rm /etc/mark 2>/dev/null || echo kept; "
      "stat -c '%u' / /etc");
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output, "tree new\nkept\n65533\n0\n") << ran.report;
  EXPECT_FALSE(path_exists(folder_ + "/tree/made"));
}

TEST_F(FilesTest, ScratchOnDiskTakesTheChanges) {
  Spec spec = tree_spec("echo new > /made");
  spec.scratch_folder = make_folder("scratch", 0, 0700);
  EXPECT_TRUE(run(spec).started());
  EXPECT_EQ(read_file(folder_ + "/scratch/upper/made").value(), "new\n");
}

TEST_F(FilesTest, ProjectIsAWritableOverlayWhoseFilesAreTheUsers) {
  Spec spec = shell_spec(
      "stat -c %u . train.py; echo more >> train.py; echo made > made; cat train.py; rm gone");
  make_folder("snapshot", 0);
  write("snapshot/train.py", "code\n");
  write("snapshot/gone", "x");
  spec.project_tree = folder_ + "/snapshot";
  spec.project_root_is_user = true;
  spec.project_upper = make_folder("upper", 0, 0700);
  spec.directory = "/project";
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output, "65533\n65533\ncode\nmore\n") << ran.report;
  EXPECT_EQ(read_file(folder_ + "/snapshot/train.py").value(), "code\n");
  EXPECT_EQ(read_file(folder_ + "/upper/upper/train.py").value(), "code\nmore\n");
  EXPECT_EQ(owner_of("upper/upper/made"), kTestId);
  EXPECT_EQ(owner_of("snapshot/train.py"), 0u);
}

TEST_F(FilesTest, ProjectWithoutASnapshotIsTheUsersAndEmpty) {
  const Ran ran = run(shell_spec("cd /project && ls -A && stat -c %u . && touch made"));
  EXPECT_EQ(ran.output, "65533\n");
  EXPECT_EQ(ran.status, 0);
}

TEST_F(FilesTest, BindsAreReadOnlyUnlessTheySayOtherwise) {
  const std::string data = make_folder("data", kTestId), out = make_folder("out", kTestId);
  Spec spec = shell_spec(
      "touch /data/imagenet/x 2>&1 | grep -o Read-only; touch /project/out/made && echo made");
  spec.binds = {{.from = data, .to = "/data/imagenet"},
                {.from = out, .to = "/project/out", .writable = true}};
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output, "Read-only\nmade\n") << ran.report;
  EXPECT_EQ(owner_of("out/made"), kTestId);
}

TEST_F(FilesTest, BindsAllowNeitherSetIdNorDevices) {
  const std::string data = make_folder("data", 0);
  ASSERT_EQ(::mknod((data + "/null").c_str(), S_IFCHR | 0666, 0x103), 0);
  ASSERT_EQ(::chmod((data + "/null").c_str(), 0666), 0);
  Spec spec = shell_spec(
      "cat /data/null 2>&1 | grep -o denied; grep ' /data ' /proc/mounts | cut -d' ' -f4 | cut "
      "-c1-15");
  spec.binds = {{.from = data, .to = "/data"}};
  EXPECT_EQ(run(spec).output, "denied\nro,nosuid,nodev\n");
}

TEST_F(FilesTest, WritableFoldersOfRootBelongToTheUserInside) {
  const std::string shared = make_folder("shared", 0, 0755);
  Spec spec = shell_spec("echo x > /data/made && stat -c %u /data/made");
  spec.binds = {{.from = shared, .to = "/data", .writable = true, .root_is_user = true}};
  EXPECT_EQ(run(spec).output, "65533\n");
  EXPECT_EQ(owner_of("shared/made"), 0u);
}

// Through the idmapped mount such a file would be root's, and set-uid, on the host.
TEST_F(FilesTest, NoSetIdFileIsLeftInAFolderOfRoot) {
  const std::string shared = make_folder("shared", 0, 0755);
  Spec spec = python_spec(R"(
import ctypes, os
os.chdir('/data')
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, act):
  try: act(); print(name, 'done')
  except OSError as e: print(name, e.errno)
def call(number, *arguments):
  if libc.syscall(ctypes.c_long(number), *arguments) < 0: raise OSError(ctypes.get_errno(), '')
with open('plain', 'w') as f: f.write('x')
os.chmod('plain', 0o755)
for bits in (0o4755, 0o2755):
  attempt('chmod', lambda: os.chmod('plain', bits))
  attempt('fchmod', lambda: os.fchmod(os.open('plain', os.O_RDONLY), bits))
  attempt('fchmodat', lambda: call(268, -100, b'plain', bits))
  attempt('fchmodat2', lambda: call(452, -100, b'plain', bits, 0))
  attempt('creat', lambda: call(85, b'a', bits))
  attempt('open', lambda: call(2, b'b', os.O_CREAT | os.O_WRONLY, bits))
  attempt('openat', lambda: os.open('c', os.O_CREAT | os.O_WRONLY, bits))
  attempt('mknod', lambda: call(133, b'd', 0o100000 | bits, 0))
  attempt('mknodat', lambda: call(259, -100, b'e', 0o100000 | bits, 0))
attempt('openat2', lambda: call(437, -100, b'f', 0, 24))
)");
  spec.binds = {{.from = shared, .to = "/data", .writable = true, .root_is_user = true}};
  std::string expected;
  for (int i = 0; i < 2; ++i)
    for (const char* name : {"chmod", "fchmod", "fchmodat", "fchmodat2", "creat", "open", "openat",
                             "mknod", "mknodat"})
      expected += std::string(name) + " 1\n";
  EXPECT_EQ(run(spec).output, expected + "openat2 38\n");
  const auto names = list_folder(shared);
  ASSERT_TRUE(names.has_value());
  EXPECT_EQ(*names, std::vector<std::string>{"plain"});
}

TEST_F(FilesTest, PathsOfUsersAreOpenedWithTheirRights) {
  const std::string theirs = make_folder("theirs", 0, 0700), inner = make_folder("theirs/inner", 0);
  write("theirs/inner/secret", "root's", 0644);
  Spec spec = shell_spec("cat /data/secret");
  spec.binds = {{.from = inner, .to = "/data", .opened_as_user = true}};
  const Ran refused = run(spec);
  EXPECT_FALSE(refused.started());
  EXPECT_NE(refused.report.find("Permission denied"), std::string::npos) << refused.report;
  // A symlink that the user planted is followed with the user's rights, so it leads nowhere new.
  const std::string project = make_folder("project", kTestId);
  ASSERT_EQ(::symlink(inner.c_str(), (project + "/data").c_str()), 0);
  spec.binds[0].from = project + "/data";
  EXPECT_FALSE(run(spec).started());
  spec.binds[0].opened_as_user = false;
  EXPECT_EQ(run(spec).output, "root's") << "the test proves nothing: root cannot follow it either";
}

TEST_F(FilesTest, MagicLinksAreNotFollowed) {
  Spec spec = shell_spec("true");
  spec.binds = {{.from = "/proc/self/root/etc", .to = "/data", .opened_as_user = true}};
  const Ran ran = run(spec);
  EXPECT_FALSE(ran.started());
}

TEST_F(FilesTest, DevicesAndSocketsAreNoPathsOfUsers) {
  const std::string project = make_folder("project", kTestId);
  ASSERT_EQ(::mkfifo((project + "/pipe").c_str(), 0666), 0);
  Spec spec = shell_spec("true");
  spec.binds = {{.from = project + "/pipe", .to = "/data", .opened_as_user = true}};
  EXPECT_FALSE(run(spec).started());
}

// A hostile tree: its folders are links to the host's. Targets are found inside the new root only.
TEST_F(FilesTest, LinksOfATreeDoNotLeadToTheHost) {
  const std::string host = make_folder("host", 0);
  Spec spec = tree_spec("ls -A /opt/escape; ls /loam");
  ASSERT_EQ(::rmdir((folder_ + "/tree/opt").c_str()), 0);
  ASSERT_EQ(::symlink(folder_.c_str(), (folder_ + "/tree/opt").c_str()), 0);
  ASSERT_EQ(::symlink(host.c_str(), (folder_ + "/tree/dev").c_str()), 0);
  ASSERT_EQ(::symlink((host + "/resolv.conf").c_str(), (folder_ + "/tree/etc/resolv.conf").c_str()),
            0);
  spec.binds.push_back({.from = make_folder("data", 0), .to = "/opt/host/planted"});
  spec.files = {{"/etc/resolv.conf", "nameserver 192.0.2.1\n"}};
  (void)run(spec);
  EXPECT_EQ(list_folder(host).value(), std::vector<std::string>{});
}

TEST_F(FilesTest, GeneratedFilesAreThereAndReadOnly) {
  Spec spec =
      shell_spec("cat /etc/passwd; hostname; (echo x >> /etc/passwd) 2>/dev/null || echo refused");
  spec.files = {{"/etc/passwd", "ana:x:65533:65533::/loam/home:/bin/sh\n"}};
  spec.hostname = "digits-17";
  EXPECT_EQ(run(spec).output, "ana:x:65533:65533::/loam/home:/bin/sh\ndigits-17\nrefused\n");
  Spec in_tree = tree_spec("cat /etc/passwd /run/systemd/resolve/stub-resolv.conf");
  ASSERT_EQ(::symlink("../run/systemd/resolve/stub-resolv.conf",
                      (folder_ + "/tree/etc/resolv.conf").c_str()),
            0);
  in_tree.files = {{"/etc/passwd", "one\n"}, {"/etc/resolv.conf", "two\n"}};
  const Ran ran = run(in_tree);
  EXPECT_EQ(ran.output, "one\ntwo\n") << ran.report;
}

// The job's user does not own them, so that a write fails either way: the mount itself is asked.
TEST_F(FilesTest, GeneratedFilesAreMountedReadOnly) {
  Spec spec = shell_spec("grep ' /etc/hosts ' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1");
  spec.files = {{"/etc/hosts", "127.0.0.1 localhost\n"}};
  EXPECT_EQ(run(spec).output, "ro\n");
}

// A root that is only covered would be there for who finds a way below.
TEST_F(FilesTest, TheHostsRootIsNotBelow) {
  EXPECT_EQ(run(shell_spec("cut -d' ' -f5 /proc/self/mountinfo | grep -cx /")).output, "1\n");
}

TEST_F(FilesTest, HostFilesAreReadOnly) {
  const Ran ran = run(
      shell_spec("for d in / /etc /usr /var /home; do [ -w $d ] && echo $d; done; "
                 "for d in /tmp /var/tmp /run /dev/shm /project; do touch $d/x || echo $d; done"));
  EXPECT_EQ(ran.output, "");
}

TEST_F(FilesTest, TheHostsTemporaryFilesAreNotSeen) {
  write("seen", "x");
  EXPECT_EQ(run(shell_spec("ls -A /tmp /var/tmp /run")).output, "/run:\n\n/tmp:\n\n/var/tmp:\n");
}

TEST_F(FilesTest, ErrorsSayWhatAndWhere) {
  Spec spec = shell_spec("true");
  spec.argv = {"nosuch"};
  EXPECT_NE(run(spec).report.find("nosuch: no such program in the environment"), std::string::npos);
  spec.argv = {"/etc/passwd"};
  EXPECT_NE(run(spec).report.find("not executable"), std::string::npos) << run(spec).report;
  spec = shell_spec("true");
  spec.directory = "/no/such";
  EXPECT_NE(run(spec).report.find("working directory /no/such"), std::string::npos);
  spec = shell_spec("true");
  spec.binds = {{.from = "/usr", .to = "/etc/no/such"}};
  EXPECT_NE(run(spec).report.find("mount at /etc/no/such"), std::string::npos) << run(spec).report;
  spec.binds = {{.from = "/no/such", .to = "/data"}};
  EXPECT_NE(run(spec).report.find("/no/such"), std::string::npos);
}

// systemd shares all mounts; a copy of a shared one is its peer. What a sandbox mounts below a bind, or
// covers there, would be mounted and covered on the host, for good.
TEST_F(FilesTest, NothingIsMountedOnTheHostWhereItsMountsAreShared) {
  const std::string outer = make_folder("outer", kTestId), inner = make_folder("inner", kTestId);
  make_folder("outer/sub", kTestId);
  make_folder("outer/state", 0);
  write("inner/kept", "x");
  write("outer/state/secret", "x");
  auto words = make_pipe();
  ASSERT_TRUE(words.has_value());
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::string seen = "no shared mounts";
    if (::unshare(CLONE_NEWNS) == 0 &&
        ::mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) == 0) {
      Spec spec = shell_spec("cat /data/sub/kept; ls -A /data/state; grep -c shared: /proc/self/mountinfo");
      spec.masks = {outer + "/state"};
      spec.binds = {{.from = outer, .to = "/data", .writable = true}, {.from = inner, .to = "/data/sub"}};
      const std::string before = read_file("/proc/self/mountinfo").value();
      seen = run(spec).output;
      if (read_file("/proc/self/mountinfo").value() != before) seen += "mounted on the host";
    }
    (void)write_full(words->write_end.get(), seen);
    ::_exit(0);
  }
  words->write_end.reset();
  EXPECT_EQ(read_fd(words->read_end.get()).value(), "x0\n");
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
}

// With the keeper's rights, that is: root's on a root node.
TEST_F(FilesTest, NoPlaceIsMadeInWhatIsMounted) {
  const std::string outer = make_folder("outer", 0), inner = make_folder("inner", kTestId);
  make_folder("outer/there", 0);
  Spec spec = shell_spec("ls /data /data/there");
  const auto mount_inner_at = [&](const std::string& to) {
    spec.binds = {{.from = outer, .to = "/data", .writable = true}, {.from = inner, .to = to}};
    return run(spec);
  };
  write("inner/kept", "x");
  EXPECT_EQ(mount_inner_at("/data/there").output, "/data:\nthere\n\n/data/there:\nkept\n");
  for (const char* to : {"/data/made", "/data/made/deep"}) {
    const Ran refused = mount_inner_at(to);
    EXPECT_FALSE(refused.started());
    EXPECT_NE(refused.report.find(std::string("mount at ") + to), std::string::npos) << refused.report;
    EXPECT_NE(refused.report.find("make the place"), std::string::npos) << refused.report;
  }
  // Nor through a link of an environment's tree.
  spec = tree_spec("true");
  ASSERT_EQ(::symlink("../data", (folder_ + "/tree/opt/way").c_str()), 0);
  spec.binds.push_back({.from = outer, .to = "/data", .writable = true});
  spec.binds.push_back({.from = inner, .to = "/opt/way/made"});
  EXPECT_FALSE(run(spec).started());
  EXPECT_EQ(list_folder(outer).value(), std::vector<std::string>{"there"});
}

// A replica's channel lies in a folder of its user, who could put a link in its place.
TEST_F(FilesTest, NothingBelowLoamsStateIsReachedByALink) {
  make_folder("state", 0);
  make_folder("elsewhere", 0);
  write("elsewhere/private", "x");
  ASSERT_EQ(::symlink((folder_ + "/elsewhere").c_str(), (folder_ + "/state/channel").c_str()), 0);
  Spec spec = shell_spec("cat /data/private");
  spec.binds = {{.from = folder_ + "/state/channel", .to = "/data"}};
  EXPECT_EQ(run(spec).output, "x");
  spec.masks = {folder_ + "/state"};
  EXPECT_FALSE(run(spec).started());
}

// The user's other processes are in the host's /proc, other users' runs in Loam's state.
TEST_F(FilesTest, AUsersMountBringsNeitherProcNorStateAlong) {
  const std::string link = folder_ + "/root";
  ASSERT_EQ(::symlink("/", link.c_str()), 0);
  Spec spec = shell_spec("ls -A /data/proc /data/sys /data/dev; ls -A /data" + folder_ +
                         "/state; test -e /data/etc/passwd && echo rest");
  make_folder("state", 0, 0755);
  write("state/kept", "x");
  spec.masks = {folder_ + "/state"};
  spec.binds = {{.from = link, .to = "/data", .opened_as_user = true}};
  EXPECT_EQ(run(spec).output, "/data/dev:\n\n/data/proc:\n\n/data/sys:\nrest\n");
  spec.binds[0].from = "/proc";
  EXPECT_FALSE(run(spec).started());
  spec.binds[0].from = folder_ + "/state";
  const Ran refused = run(spec);
  EXPECT_FALSE(refused.started());
  EXPECT_NE(refused.report.find("Loam's own state"), std::string::npos) << refused.report;
}

}  // namespace
}  // namespace loam::sandbox
