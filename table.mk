# Every row of the table for one seed, each a chain of stages: `make table SEED=0`, two rows at a time with `make -j2`.
#
# A row is made when the file that its stage writes last is missing: a killed run goes on where it stopped. Settings are
# those of params.yaml, `train.launch` among them, but for the steps below: `make demo` is for a first look and trains for
# a shorter time. The steps of RL are split as in the paper (arXiv 2503.06580): of all steps of rl2, five sixths simulated
# and one sixth real, or half as many again from the model without SFT. The steps below are those of the microworld. For
# the 7B of conf/7b.yaml with all questions of the paper's sets: `make table RL_STEPS=96 NUM_QUESTIONS=0 PLAIN_STEPS=...`;
# a published model to start from is not trained, so PRETRAIN_STEPS says nothing there.
#
# Every row is asked NUM_QUESTIONS questions of each evaluation set of SPLIT (0: all; of several sets a smaller one is
# asked whole), or of those that SETS names, joined by commas.

SEED ?= 0
SPLIT ?= test
SETS ?=
NUM_QUESTIONS ?= 2000
PRETRAIN_STEPS ?= 1700
RL_STEPS ?= 24
# Of plain SFT instead of sft1: as many tokens as an epoch of the pairs has, 1,152 of them a step.
PLAIN_STEPS ?= 217

# How the profile starts a training stage: `python -m`, or accelerate on many GPUs. Pre-training runs in one process, as
# in dvc.yaml.
launch = $(if $(filter pretrain,$(1)),python -m,$$$$(python -c \
  'from coa.params import Params; print(Params.load("train").values(["train"])["train"]["launch"])'))
trained = data/train/$(1)-s$(SEED)/params.yaml

# $(1) the row's name, $(2) its stage, $(3) the row it starts from, $(4) further settings
define chain
$(call trained,$(1)): $(if $(3),$(call trained,$(3))) | sets
	$(if $(filter rl1,$(2)),python -m evaluation.gate name=$(1)-s$(SEED) train.seed=$(SEED) \
	  train.rl1.init=data/train/$(3)-s$(SEED) $(4))
	launch="$(call launch,$(2))" && $$$$launch train.run stage=$(2) name=$(1)-s$(SEED) train.seed=$(SEED) \
	  $(if $(3),train.$(2).init=data/train/$(3)-s$(SEED)) $(4)
endef

# $(1) the result's name, $(2) the model's, $(3) how it is asked
define result
results/evaluate/$(1)-s$(SEED).json: $(call trained,$(2))
	python -m evaluation.evaluate name=$(1)-s$(SEED) model=data/train/$(2)-s$(SEED) mode=$(3) \
	  split=$(SPLIT) 'sets=[$(SETS)]' num_questions=$(NUM_QUESTIONS)
RESULTS += results/evaluate/$(1)-s$(SEED).json
endef

SIMULATED := $(shell expr $(RL_STEPS) \* 5 / 6)
REAL := $(shell expr $(RL_STEPS) - $(SIMULATED))
MORE := $(shell expr $(RL_STEPS) \* 3 / 2)

$(eval $(call chain,pretrain,pretrain,,train.pretrain.arguments.max_steps=$(PRETRAIN_STEPS)))
$(eval $(call chain,sft1,sft1,pretrain))
$(eval $(call chain,sft2_only,sft2,pretrain))
$(eval $(call chain,sft2,sft2,sft1))
$(eval $(call chain,sft3,sft3,sft2))
$(eval $(call chain,rl1,rl1,sft3,train.rl1.arguments.max_steps=$(SIMULATED)))
# RL 1 as in the paper: an answer from an observation of its own is paid like any other.
$(eval $(call chain,rl1_exact,rl1,sft3,train.rl1.arguments.max_steps=$(SIMULATED) \
  train.rl1.rewards.exact_match=1 train.rl1.rewards.recalled=0 train.rl1.rewards.acted=0))
$(eval $(call chain,rl1_rl2,rl2,rl1,train.rl2.arguments.max_steps=$(REAL)))
$(eval $(call chain,sft3_rl2,rl2,sft3,train.rl2.arguments.max_steps=$(REAL)))
$(eval $(call chain,rl2,rl2,sft2,train.rl2.arguments.max_steps=$(RL_STEPS)))
# The model without SFT acts in ReAct's lines: it has never seen the tags.
$(eval $(call chain,rl2_only,rl2,pretrain,train.rl2.asking=react train.rl2.arguments.max_steps=$(MORE)))
# SFT 1 replaced by as much plain SFT.
$(eval $(call chain,plain_sft1,sft2,pretrain,train.sft2.arguments.max_steps=$(PLAIN_STEPS)))
$(eval $(call chain,plain_sft2,sft2,plain_sft1))

$(eval $(call result,pretrain_cot,pretrain,cot))
$(eval $(call result,pretrain_react,pretrain,react))
$(eval $(call result,rl2_only,rl2_only,react))
$(foreach row,sft1 sft2_only sft2 sft3 rl1 rl1_exact rl1_rl2 sft3_rl2 rl2 plain_sft2,$(eval $(call result,$(row),$(row),coa)))

.PHONY: table sets
# Rows that are made side by side have a core each: two processes with two threads on two cores take many times as long.
table: export OMP_NUM_THREADS = $(if $(filter -j%,$(MAKEFLAGS)),1,$(shell nproc))
# All rows wait for the first: it has the machine to itself.
$(call trained,pretrain): export OMP_NUM_THREADS = $(shell nproc)
table: $(RESULTS)
	python -m evaluation.table

sets: $(INSTALLED)-train
	dvc repro assemble
