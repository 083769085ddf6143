# What a student learns from decision pairs, by whose pairs they are and how their points were chosen, for one seed:
# `make mining SEED=0`, on the profiles in which deciding matters:
#
#   python -m coa.params conf/microworld_priced.yaml conf/decisions.yaml
#   make mining SEED=0 SPLIT=validation NUM_QUESTIONS=600
#
# SFT 2 from the base writes rollouts on train questions and forks them itself, on both arms; SFT 1 then trains decisions
# from it. All rows have the same number of pairs and of steps. Rows, seeds and questions are made and skipped as in
# table.mk, whose first rows are the base and SFT 2. Calls are kept in .journal/, so a killed run goes on where it stopped.

# Train questions that the student is asked, and the most continuations of an arm at a point.
MINED_QUESTIONS ?= 700
CONTINUATIONS ?= 8
# Pairs to train on: where a row has fewer (the summary of curate.student_pairs says so), lower it for all.
MINED_PAIRS ?= 200
# Steps on them, and how: RECIPE holds further settings of train.sft1.
DECISION_STEPS ?= 120
LOSS ?= decision
RATE ?= 2e-4
RECIPE ?= 'train.sft1.trajectories=[data/assemble/coa,data/assemble/cot]' train.sft1.likelihood_share=0.75
# Of the control: as many trajectories as stand beside the pairs, about 11 a step.
PLAIN_MINING_STEPS ?= 127

mined = data/mining/s$(SEED)
as_student = 'prompts.coa=$${train.prompt}' 'prompts.cot=$${train.prompt}' \
  'teacher.chat_template=$${train.chat_template}' teacher.policy=local \
  teacher.local.model=data/train/sft2_only-s$(SEED) \
  'teacher.local.batch_size=$${evaluate.policy.local.batch_size}' \
  'teacher.concurrency=$${evaluate.policy.concurrency}' \
  'rollout.max_context_tokens=$${train.max_context_tokens}'

$(mined)/sample/coa.parquet: $(call trained,sft2_only)
	python -m synth.sample mode=coa assignment=same num_questions=$(MINED_QUESTIONS) num_rollouts=1 seed=1 \
	  out=$(mined)/sample $(as_student)

$(mined)/grade.parquet: $(mined)/sample/coa.parquet
	python -m curate.grade 'samples=[$(mined)/sample]' 'modes=[coa]' out=$@

$(mined)/analyse.parquet: $(mined)/grade.parquet
	python -m curate.analyse graded=$< out=$@

# $(1) how points are chosen
define mine
$(mined)/$(1)/pairs.parquet: $(mined)/analyse.parquet
	python -m curate.branch graded=$(mined)/grade.parquet analysed=$$< out=$(mined)/$(1) policy=null prompts=null \
	  arms=both points=$(1) num_continuations=$(CONTINUATIONS) 'search_price=$$$${evaluate.search_price}' \
	  $(subst $$,$$$$,$(as_student))
$(call pair_set,$(1),$(mined)/grade.parquet,$(mined)/$(1))
endef

# $(1) the row's name, $(2) graded trajectories, $(3) the folder of pairs of them
define pair_set
$(mined)/$(1)-set/validation.parquet: $(3)/pairs.parquet
	python -m curate.student_pairs graded=$(2) mined=$(3) out=$(mined)/$(1)-set \
	  pipeline.student_pairs=$(MINED_PAIRS)
endef

# $(1) the row's name
define decide
$(call chain,mined_$(1),sft1,sft2_only,train.sft1.pairs=$(mined)/$(1)-set train.sft1.loss=$(LOSS) \
  train.sft1.arguments.learning_rate=$(RATE) train.sft1.arguments.max_steps=$(DECISION_STEPS) $(RECIPE))
$(call trained,mined_$(1)): $(mined)/$(1)-set/validation.parquet
$(call result,mined_$(1),mined_$(1),coa)
endef

RESULTS := results/evaluate/sft2_only-s$(SEED).json
$(foreach points,blame cue random,$(eval $(call mine,$(points))))
# The teacher's pairs, whose points are those of the section `branch`.
data/branch/pairs.parquet: | sets
$(eval $(call pair_set,teacher,data/grade.parquet,data/branch))
$(foreach row,blame cue random teacher,$(eval $(call decide,$(row))))
# The pairs replaced by nothing: SFT 2 goes on with the trajectories that stand beside them.
$(eval $(call chain,mined_none,sft2,sft2_only,train.sft2.arguments.learning_rate=$(RATE) \
  train.sft2.arguments.max_steps=$(PLAIN_MINING_STEPS)))
$(eval $(call result,mined_none,mined_none,coa))

.PHONY: mining
mining: $(RESULTS)
	python -m train.table
