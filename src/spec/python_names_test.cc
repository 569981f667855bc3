#include "spec/python_names.h"

#include <gtest/gtest.h>

#include <random>

namespace loam::spec {
namespace {

bool has(std::string_view text, const std::string& name) { return python_names(text).may_have(name); }

TEST(PythonNames, SeesWhatTheTopLevelBinds) {
  for (const char* text :
       {"def predict(batch):\n    return {}\n", "async def predict(batch): pass\n",
        "class predict:\n    pass\n", "predict = load()\n", "predict: Handler = load()\n",
        "a, predict = 1, 2\n", "from model import predict\n", "from model import (\n  a,\n  b as predict,\n)\n",
        "import numpy, predict\n", "import numpy as predict\n",
        "if True:\n    def predict(batch):\n        pass\nelse:\n    predict = None\n",
        "try:\n\tfrom fast import predict\nexcept ImportError:\n\tfrom slow import predict\n",
        "for predict in handlers:\n    pass\n", "with load() as predict:\n    pass\n",
        "def make():\n    global predict\n    predict = 1\nmake()\n", "x = 1; predict = 2\n",
        "@loam.signature(inputs={'x': (\"FP32\", [-1, 2])},\n                outputs={})\ndef predict(b): pass",
        "x = '''\ndef other(): \n'''\r\ndef predict(b): pass\r\n", "\xEF\xBB\xBF" "def predict(b): pass\n",
        "x = 1 + \\\n    2\ndef predict(b): pass\n", "if (predict := load()): pass\n"})
    EXPECT_TRUE(has(text, "predict")) << text;
}

TEST(PythonNames, ADifferentNameOrPlaceIsNotThere) {
  for (const char* text :
       {"", "def predct(batch):\n    return {}\n", "# def predict(b): pass\n",
        "\"\"\"\ndef predict(b): pass\n\"\"\"\n", "class Model:\n    def predict(self, b):\n        pass\n",
        "def make():\n    def predict(b):\n        pass\n    return 1\n", "model.predict = 1\n",
        "import model.predict\n", "def f(predict):\n    predict = 1\n", "x = 'predict'\n",
        "def f(a,\n      b):\n  predict = 1\nx = r'\\'predict'\n"})
    EXPECT_FALSE(has(text, "predict")) << text;
}

TEST(PythonNames, WhatItCannotFollowMayHaveAnything) {
  for (const char* text :
       {"from model import *\n", "globals()['pre' + 'dict'] = f\n", "exec(open('x').read())\n",
        "setattr(sys.modules[__name__], n, f)\n", "def __getattr__(name):\n    return f\n",
        "def make():\n    globals()[n] = f\nmake()\n", "x = '''never ends\n", "x = (1,\n", "x = 1)\n",
        "x = 'cut\n"})
    EXPECT_TRUE(has(text, "predict")) << text;
}

TEST(PythonNames, ListsDefinitionsInOrder) {
  EXPECT_EQ(python_names("import a\nX = 1\ndef f():\n    def g(): pass\nclass C: pass\nX == 2\n").defined,
            (std::vector<std::string>{"X", "f", "C"}));
}

// The file is foreign: whatever its bytes, the scan ends.
TEST(PythonNames, SurvivesAnyBytes) {
  const std::string text = "@x('''a''')\ndef predict(b):\n\treturn {\"y\": [1, \\\n 2]}  # c\n";
  std::mt19937 random(20'240'607);
  for (int round = 0; round < 20'000; ++round) {
    std::string mutated = text;
    for (auto n = random() % 5; n > 0; --n)
      mutated[random() % mutated.size()] = static_cast<char>(random() % 256);
    mutated.erase(random() % mutated.size(), random() % 30);
    (void)python_names(mutated);
  }
}

}  // namespace
}  // namespace loam::spec
