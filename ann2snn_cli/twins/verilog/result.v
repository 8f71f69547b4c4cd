// Part of the test bench: the sums over all steps of what an output passes on, held against result.json.

/* verilator lint_off WIDTH */  // addresses are computed in 32 bits, text is shifted into a register
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // memories of a test bench

module result #(
    parameter NAME = "",
    parameter KEY = "",  // the name in quotes, as it stands in result.json
    parameter KEY_LENGTH = 2,
    parameter NEURONS = 1,
    parameter X_BITS = 2
) (
    input clock,
    input start,  // of a sample

    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value
);
    localparam TEXT = 8 * (KEY_LENGTH > 9 ? KEY_LENGTH : 9);

    reg signed [63:0] expected [0:NEURONS-1];
    reg signed [63:0] sum      [0:NEURONS-1];

    reg [TEXT-1:0] last;  // characters that were read
    reg signed [63:0] number;
    integer i, file, character;

    always @(posedge clock) begin
        if (start) for (i = 0; i < NEURONS; i = i + 1) sum[i] = 0;
        if (in_valid) sum[in_address] = sum[in_address] + in_value;
    end

    // Reads on until the last `length` characters are these; `character` is negative at the end of the file.
    task find(input [TEXT-1:0] text, input integer length);
        begin
            last = 0;
            while (character >= 0 && (last & ~({TEXT{1'b1}} << 8 * length)) != text) begin
                character = $fgetc(file);
                last = {last, character[7:0]};
            end
        end
    endtask

    // The numbers in the list that stands behind the key.
    task load(input [8*1000-1:0] path, inout complete);
        begin
            file = $fopen(path, "r");
            character = file == 0 ? -1 : 0;
            find("\"outputs\"", 9);
            find(KEY, KEY_LENGTH);
            find("[", 1);
            for (i = 0; i < NEURONS && character >= 0; i = i + 1) begin
                if ($fscanf(file, "%d", number) != 1) character = -1;
                else begin
                    expected[i] = number;
                    if (i < NEURONS - 1) find(",", 1);
                end
            end
            if (character < 0) begin
                complete = 0;
                $display("%0s does not hold %0d numbers for %0s", path, NEURONS, NAME);
            end
            if (file != 0) $fclose(file);
        end
    endtask

    task compare(input [8*256-1:0] sample, inout integer checked, inout integer mismatches);
        for (i = 0; i < NEURONS; i = i + 1) begin
            checked = checked + 1;
            if (expected[i] !== sum[i]) begin
                mismatches = mismatches + 1;
                if (mismatches <= 20)
                    $display(
                        "MISMATCH sample=%0s layer=%0s step=0 neuron=%0d field=result expected=%0d got=%0d",
                        sample, NAME, i, expected[i], sum[i]);
            end
        end
    endtask
endmodule
