package storetest

func copyCases() []draft {
	return []draft{
		{
			name: "copies/taken in",
			demands: "What Create and Save are given shares no memory with what is kept: the caller may change it afterwards. The store does " +
				"not change it either, for the caller may pass it again.",
			run: func(k *kit) {
				unchanged := func(what, d string) {
					if d != "" {
						k.errorf("%s has changed what it was given (-before +after):\n%s", what, d)
					}
				}
				k.begin("task-0", "group-1", 2)
				c := creation{Task: filledTask("task-1", "group-1"), Events: filledEvents(3, 1, 3)}
				c.Task.EventSeq, c.Task.CreatedAt = 3, k.now()
				c.Task.Instances[0], c.Task.Instances[1] = c.Task.Instances[1], c.Task.Instances[0]
				prior := k.next("task-0", everything("prior"), ends)
				c.Prior = &prior
				given := clone(c)
				k.mustCreate(c)
				unchanged("Create", diff(given, c))
				scramble(&c)
				k.same("after the creation was changed")
				s := k.next("task-1", func(c *change) {
					row := filled[instance](7)
					setRow(&row, 3)
					c.Rows = []instance{row, newRow(2)}
					c.Events, c.Head.EventSeq = filledEvents(9, 4, 2), 5
					c.Outputs = map[string]output{"i-0003": filled[output](8)}
				})
				given2 := clone(s)
				k.mustSave(s)
				unchanged("Save", diff(given2, s))
				scramble(&s)
				s.Outputs["i-0001"] = output{}
				k.same("after the change was changed")
			},
		},
		{
			name:    "copies/handed out",
			demands: "What Load, Head, Events and List hand out shares no memory with what is kept, nor with what they hand out another time.",
			run: func(k *kit) {
				c := creation{Task: filledTask("task-1", "group-1"), Events: filledEvents(3, 1, 3)}
				c.Task.EventSeq, c.Task.CreatedAt = 3, k.now()
				k.mustCreate(c)
				k.mustSave(k.next("task-1", prints("i-0000", "x")))
				k.begin("task-2", "group-2", 1)
				want := clone(k.want["task-1"].task)
				t1, t2 := k.mustLoad("task-1"), k.mustLoad("task-1")
				scramble(t1)
				t1.Instances = append(t1.Instances[:0], instance{ID: "appended"})
				if d := diff(&want, t2); d != "" {
					k.errorf("a record changed with another that was loaded (-want +got):\n%s", d)
				}
				k.same("after a loaded record was changed")
				h1, h2 := k.mustHead("task-1"), k.mustHead("task-1")
				scramble(h1)
				if d := diff(&want.Head, h2); d != "" {
					k.errorf("a head changed with another (-want +got):\n%s", d)
				}
				k.same("after a head was changed")
				for _, h := range k.mustList(filter{}) {
					scramble(h)
				}
				k.same("after listed heads were changed")
				for _, e := range k.mustEvents("task-1", 0) {
					scramble(&e)
				}
				k.same("after events were changed")
				l1, l2 := k.mustList(filter{}), k.mustList(filter{})
				scramble(l1)
				if d := diff(&want.Head, l2[len(l2)-1]); d != "" {
					k.errorf("a listed head changed with another (-want +got):\n%s", d)
				}
			},
		},
	}
}
