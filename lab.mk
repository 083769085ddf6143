# The rows of experiments of the lab for one seed: `make lab EXPERIMENT=alpha SEED=0`, two at a time with `make -j2`.
# Several are joined by commas: `EXPERIMENT=alpha,masking` makes what they share once.
#
# lab/experiments.py lists the experiments. A row that lab/ keeps with the settings of now is not made again, on
# whichever machine it was made; `python -m lab.missing` lists the others. Trainings are those of table.mk
# where it has them, and are made and skipped as there: a killed run goes on where it stopped.

EXPERIMENT ?=
# Empty: the split and the number of questions that the experiment has.
LAB_SPLIT ?=
LAB_QUESTIONS ?=

lab_settings = experiment=$(EXPERIMENT) seed=$(SEED) \
  $(addprefix split=,$(LAB_SPLIT)) $(addprefix num_questions=,$(LAB_QUESTIONS)) \
  pretrain_steps=$(PRETRAIN_STEPS) rl_steps=$(RL_STEPS)

.PHONY: lab lab-rows
# The rules of the rows that are missing are written first; the second make reads them. With -n both still run, so that
# the commands are shown.
lab: $(INSTALLED)-train
	+@python -m lab.rules $(lab_settings)
	+@$(MAKE) --no-print-directory LAB_RULES=.lab/rules.mk lab-rows

ifdef LAB_RULES
include $(LAB_RULES)
endif

lab-rows: export OMP_NUM_THREADS = $(if $(filter -j%,$(MAKEFLAGS)),1,$(shell nproc))
lab-rows: $(LAB_ROWS)
	python -m lab.page
